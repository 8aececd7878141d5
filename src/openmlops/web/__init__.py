"""Shared by both HTTP servers, prediction server and console: access control, sessions, security headers, sockets."""
