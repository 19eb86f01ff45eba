//! What LAVA has to be told of a board: its device type, and a device of it for the lab to complete.
//!
//! Format: LAVA's "Device configuration" manual: Jinja2 templates on top of its `base.jinja2`. LAVA's own templates for
//! boards start kernels by TFTP; ours writes an image and turns the board on.

use vambrace_bsp::Board;

use super::super::lab::USUAL_BAUD;

/// The name of the device type of `board`: not that of LAVA's own, which boots it in another way.
pub(super) fn device_type(board: &Board) -> String {
    format!("vambrace-{}", board.id)
}

/// The device type of `board`. A lab whose cards are moved by something else sets `flasher_deploy_commands`.
pub(super) fn kind(board: &Board) -> String {
    format!(
        "{{# device_type: {id} #}}\n\
         {{# {name}: an image is written onto its card, and its own firmware boots that. #}}\n\
         {{% extends 'base.jinja2' %}}\n\
         {{% block body %}}\n\
         {{% set flasher_deploy_commands = flasher_deploy_commands|default([\n\
         \x20   '{{POWER_OFF_COMMAND}}',\n\
         \x20   'usbsdmux ' + sd_mux|default('') + ' host',\n\
         \x20   'bmaptool copy --bmap {{BMAP}} {{IMAGE}} ' + sd_card|default(''),\n\
         \x20   'usbsdmux ' + sd_mux|default('') + ' dut']) %}}\n\
         actions:\n\
         \x20 deploy:\n\
         \x20   methods:\n\
         \x20     flasher:\n\
         \x20       commands: {{{{ flasher_deploy_commands }}}}\n\
         \x20 boot:\n\
         \x20   connections:\n\
         \x20     serial:\n\
         \x20   methods:\n\
         \x20     minimal:\n\
         {{% endblock body %}}\n",
        id = device_type(board),
        name = board.name,
    )
}

/// A device of that type, as an example.
pub(super) fn example(board: &Board) -> String {
    let serial = board.serial.as_ref();
    let baud = serial.map_or(USUAL_BAUD, |serial| serial.baud);
    let connector = serial.and_then(|serial| serial.connector.as_deref());
    let connector = connector.map(|name| format!(", at {name}")).unwrap_or_default();
    format!(
        "{{% extends '{id}.jinja2' %}}\n\
         {{# What says CHANGE-ME is for you. The serial line{connector}: {baud} bits per second, by ser2net or its like. #}}\n\
         {{% set connection_command = 'telnet CHANGE-ME 7000' %}}\n\
         {{% set hard_reset_command = 'CHANGE-ME off-and-on' %}}\n\
         {{% set power_off_command = 'CHANGE-ME off' %}}\n\
         {{% set power_on_command = 'CHANGE-ME on' %}}\n\
         {{# What moves the card, and where it is then. #}}\n\
         {{% set sd_mux = '/dev/usb-sd-mux/CHANGE-ME' %}}\n\
         {{% set sd_card = '/dev/disk/by-path/CHANGE-ME' %}}\n",
        id = device_type(board),
    )
}
