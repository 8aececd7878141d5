"""What both HTTP servers need, the prediction server and the console: who may do what, sessions, page headers, sockets."""
