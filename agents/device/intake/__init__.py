"""Take pictures and reports from cameras that upload them by FTP or send them by e-mail."""
