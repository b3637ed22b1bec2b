"""The shelf for pages: templates, forms, flash messages, charts, assets and error pages."""
