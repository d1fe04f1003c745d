"""Options: command line over environment over file over default. Read by cli and bootstrap only."""
