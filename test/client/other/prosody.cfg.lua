-- Prosody Example Configuration File
admins = { "admin@xmpp.example", "{" } -- }
modules_enabled = {
	"disco"; "server_contact_info";
	--"mam"; { "not a module" }
}
--[[ VirtualHost "commented.example"
]]
sql = { driver = "PostgreSQL", database = "prosody", host = "localhost", password = 'a"b' }
contact_info = { abuse = { "mailto:abuse@xmpp.example" }, admin = { "xmpp:all@xmpp.example" } }
VirtualHost "xmpp.example"
	contact_info = { admin = "mailto:admin@xmpp.example"; }
VirtualHost "off.example" { enabled = false }
VirtualHost "off.too.example"
	enabled = false
Component "conference.xmpp.example" "muc"
	name = "rooms"
Include "nowhere/*.cfg.lua"
