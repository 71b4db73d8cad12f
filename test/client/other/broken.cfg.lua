VirtualHost "a.example"
modules_enabled = {
    { "x", -- }
}
