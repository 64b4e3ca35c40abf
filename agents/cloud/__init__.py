"""Run the cloud agent: name species of public features, and forecast meters."""
