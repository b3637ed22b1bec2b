"""The sample: copy this folder to start a feature of your own."""
