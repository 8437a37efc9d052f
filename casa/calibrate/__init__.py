"""From pixels to micrometres and from counts to concentrations: calibration profiles."""
