VirtualHost "Second.Example"
