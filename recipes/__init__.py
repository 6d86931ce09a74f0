"""What made the data that comes with saekit: the demo corpus and the default SAEs. Not in the installed package."""
