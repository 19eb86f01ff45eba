# Runs in the new system, whose packages have been unpacked: what dpkg would have run before unpacking, then dpkg's own
# configuring, in the order of what depends on what.
set -e
cd /

# No service is started: this machine is not the one that they are for (invoke-rc.d(8)).
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
# Without setcap packages fall back to the set-user-id bit by themselves, which a root file system keeps however it is copied.
[ ! -e /usr/sbin/setcap ] || mount -o bind /bin/false /usr/sbin/setcap
# What Python compiles is not the same bytes each time and is taken away again, so nothing is compiled.
[ ! -e /usr/bin/py3compile ] || mount -o bind /bin/true /usr/bin/py3compile
for module in /usr/lib/python3.*/py_compile.py; do
    [ ! -e "$module" ] || mount -o bind /dev/null "$module"
done

export DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT=
DPKG_RUNNING_VERSION=$(dpkg-query -W -f '${Version}' dpkg)
DPKG_MAINTSCRIPT_ARCH=$(dpkg --print-architecture)
export DPKG_RUNNING_VERSION DPKG_MAINTSCRIPT_ARCH
before() {
    [ -x "$1" ] || return 0
    name=${1##*/}
    name=${name%.preinst}
    DPKG_MAINTSCRIPT_PACKAGE=${name%%:*}
    export DPKG_MAINTSCRIPT_PACKAGE
    echo "Preparing $name"
    "$1" install || { echo "the preinst of $name failed"; exit 1; }
}
# The users and groups that everything else names.
before /var/lib/dpkg/info/base-passwd.preinst
for script in /var/lib/dpkg/info/*.preinst; do
    [ "$script" = /var/lib/dpkg/info/base-passwd.preinst ] || before "$script"
done
unset DPKG_MAINTSCRIPT_NAME DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT DPKG_ADMINDIR DPKG_ROOT DPKG_RUNNING_VERSION \
    DPKG_MAINTSCRIPT_ARCH DPKG_MAINTSCRIPT_PACKAGE

dpkg --force-unsafe-io --configure -a
left=$(dpkg --audit)
[ -z "$left" ] || { echo "$left"; exit 1; }
for folder in /usr/lib/modules/*; do
    [ ! -d "$folder" ] || { echo "Setting up the modules of ${folder##*/}"; depmod "${folder##*/}"; }
done
rm /usr/sbin/policy-rc.d
