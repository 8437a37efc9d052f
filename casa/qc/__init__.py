"""Quality control: series of control recordings with their charts and alarms, and agreement with a technician."""
