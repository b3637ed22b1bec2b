"""Files people keep beside their indicators: checked before anybody can have them, gone for good when they are gone."""
