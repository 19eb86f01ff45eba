# Who waits for dom0 waits for this line: a shell has the console and is about to read from it.
if [ "$(tty)" = /dev/hvc0 ] && [ ! -e /run/vambrace-ready ]; then
    : > /run/vambrace-ready
    echo 'vambrace-dom0: ready'
fi
