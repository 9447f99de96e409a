"""An emulated network on one machine: namespaces, links, routing, and the truth about them."""
