//! The documentation against the program: links, code blocks, messages. Nothing here needs the network, QEMU or a compiler.

#[path = "guide/blocks.rs"]
mod blocks;
#[path = "guide/links.rs"]
mod links;
#[path = "guide/messages.rs"]
mod messages;
#[path = "guide/page.rs"]
mod page;
#[path = "guide/table.rs"]
mod table;
#[path = "support/ti.rs"]
mod ti;
