#!/usr/bin/env bash
# Makes what the power-cut tests boot: build/machine/vmlinuz and build/machine/initramfs.cpio.gz.
#
# The kernel is Debian's own, unpacked beside the project, not installed. The initial file system holds busybox, the
# modules for a virtio disk and for NFS, and the programs given as arguments with the shared libraries that they need.
#
#   scripts/prepare-machine.sh [PROGRAM...]
#
# Exits 1, with the reason, where a piece cannot be had; the tests are then skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

machine=$BUILD/machine
mkdir -p "$machine"
# Tests that run side by side prepare at once: one after the other, and who boots meanwhile finds the old file or the new one.
exec 9>"$machine/lock"
flock 9
for tool in qemu-system-x86_64 busybox mkfs.ext4 cpio modinfo dpkg-deb; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || fail "$tool is missing: scripts/install-dependencies.sh test"
done
file -L "$(command -v busybox)" 2>/dev/null | grep -q 'dynamically linked' && fail "busybox is not static: install busybox-static"

if [ ! -f "$machine/vmlinuz" ]; then
    say "fetching Debian's kernel"
    rm -rf "$machine/deb"
    mkdir -p "$machine/deb"
    cd "$machine/deb"
    find_kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
    kernel=$(find_kernel)
    if [ -z "$kernel" ] || ! apt-get download -q "$kernel" >download.log 2>&1; then
        # The lists may be missing or older than the archive.
        as_root apt-get update -q >/dev/null || true
        kernel=$(find_kernel)
        [ -n "$kernel" ] || fail "no package linux-image-cloud-amd64 is known here"
        apt-get download -q "$kernel" >download.log 2>&1 || fail "$kernel cannot be downloaded: see $machine/deb/download.log"
    fi
    dpkg-deb -x ./*.deb unpacked
    rm -rf "$machine/modules"
    mv unpacked/lib/modules/* "$machine/modules"
    mv unpacked/boot/vmlinuz-* "$machine/vmlinuz"
    cd "$machine"
    rm -rf deb
fi

tree=$machine/tree
rm -rf "$tree"
mkdir -p "$tree"/{bin,dev,proc,sys,tmp,mnt,modules,libraries}
cp "$(command -v busybox)" "$tree/bin/busybox"

# Modules in the order in which they must be loaded: what one depends on comes first.
add_module() {
    local name=$1 order=$2 file dependency
    file=$(find "$machine/modules" -name "$name.ko*" | head -n 1)
    [ -n "$file" ] || return 0 # built into the kernel
    [ ! -f "$tree/modules/$name.ko" ] || return 0
    for dependency in $(modinfo -F depends "$file" | tr ',' ' '); do add_module "$dependency" "$order"; done
    case "$file" in
        *.xz) xz -dc "$file" >"$tree/modules/$name.ko" ;;
        *.zst) zstd -qdc "$file" >"$tree/modules/$name.ko" ;;
        *) cp "$file" "$tree/modules/$name.ko" ;;
    esac
    printf '%s.ko\n' "$name" >>"$tree/modules/$order"
}
touch "$tree/modules"/{disk,nfs}
for name in virtio_pci virtio_blk; do add_module "$name" disk; done
for name in virtio_net nfsv4; do add_module "$name" nfs; done

for program in "$@"; do
    cp "$program" "$tree/bin/"
    # The loader under the path that programs name, the rest in one folder that LD_LIBRARY_PATH names.
    ldd "$program" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
        case "$library" in
            */ld-linux*) mkdir -p "$tree$(dirname "$library")" && cp -L "$library" "$tree$library" ;;
            *) cp -L "$library" "$tree/libraries/" ;;
        esac
    done || true
done

cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
# Mounts the disk, or an NFS server's /export, and runs the commands of the kernel's command line: one line of shell, %20 for blanks.
/bin/busybox --install -s /bin
export PATH=/bin LD_LIBRARY_PATH=/libraries
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm
load() { while read -r module; do insmod "/modules/$module"; done <"/modules/$1"; }
# The server is the host, which QEMU's network has under 10.0.2.2.
mount_nfs() {
    load nfs
    ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 || return
    mount -t nfs4 -o "addr=10.0.2.2,clientaddr=10.0.2.15,proto=tcp,port=$1,$2" 10.0.2.2:/export /mnt
}
load disk
stty -opost </dev/console 2>/dev/null
echo "machine: booted"
nfs=$(sed -n 's/.*raystorage\.nfs=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ -n "$nfs" ]; then mount_nfs "${nfs%%/*}" "${nfs#*/}"; else mount -t ext4 /dev/vda /mnt; fi && echo "machine: mounted" || echo "machine: no mount"
command=$(sed -n 's/.*raystorage\.run=\([^ ]*\).*/\1/p' /proc/cmdline | sed 's/%20/ /g')
sh -c "$command"
echo "machine: done $?"
cd / && umount /mnt
poweroff -f
INIT
chmod +x "$tree/init"
(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$machine/initramfs.cpio.gz.new"
mv "$machine/initramfs.cpio.gz.new" "$machine/initramfs.cpio.gz"
