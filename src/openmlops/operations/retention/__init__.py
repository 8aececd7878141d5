"""Retention: what is deleted after how long, what stays for as long as it is needed, and why."""
