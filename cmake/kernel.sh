# Runs tests on another kernel, in a virtual machine. Read by ./dev; not a program of its own.
#
#   test_on_kernel SUITE PRESET [CTEST_OPTION...]
#
# The machine sees this one's file system as it is, below a layer that takes what is written and is gone at the end: the
# tests run at their own places, with the same libraries. It has no network but an interface that leads nowhere.

kernel_modules=(virtio_pci 9pnet_virtio 9p overlay dummy)

need_machine() {
    need qemu-system-x86 command -v qemu-system-x86_64
    need busybox-static test -x /bin/busybox
    need kmod test -x /sbin/depmod
    need cpio command -v cpio
    need xz-utils command -v xz
    install_missing
}

# fetch_kernel SUITE FOLDER: unpacks the kernel of a suite of Debian's; nothing is installed.
fetch_kernel() {
    (
        private_apt deb "$1"
        package=$(apt-cache "${apt_options[@]}" depends linux-image-amd64 | sed -n 's/^ *Depends: //p')
        [ -n "$package" ] || exit 1
        target=$PWD/$2
        cd "$apt_dir" || exit 1
        apt-get "${apt_options[@]}" -o Acquire::Retries=3 -qq download "$package" >/dev/null
        rm -rf "$target"
        mkdir -p "$target"
        dpkg-deb --extract ./linux-image-*.deb "$target"
        [ -d "$target/lib/modules" ] || { mkdir -p "$target/lib"; ln -s ../usr/lib/modules "$target/lib/modules"; }
    )
}

# first_files KERNEL_FOLDER VERSION FOLDER: what the machine starts from.
first_files() {
    local kernel=$1 version=$2 top=$3 name file order=100
    mkdir -p "$top"/{bin,proc,sys,dev,host,upper,all,modules}
    cp /bin/busybox "$top/bin/"
    /sbin/depmod -b "$kernel" "$version"
    for name in "${kernel_modules[@]}"; do
        while read -r _ file _; do
            [ -z "$(find "$top/modules" -name "*-$(basename "${file%.xz}")")" ] || continue
            order=$((order + 1))
            case $file in
                *.xz) xz -dc "$file" ;;
                *) cat "$file" ;;
            esac >"$top/modules/$order-$(basename "${file%.xz}")"
        done < <(/sbin/modprobe -d "$kernel" -S "$version" --show-depends "$name" | grep '^insmod ')
    done
    cat >"$top/init" <<'END'
#!/bin/busybox sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
grep -q plait_only_starts /proc/cmdline && poweroff -f
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
share=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o "$share,ro,cache=loose" host /host
mount -t tmpfs upper /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/host,upperdir=/upper/files,workdir=/upper/work overlay /all
for each in proc sys dev; do mount -o move "/$each" "/all/$each"; done
mkdir -p /all/dev/shm /all/dev/pts /all/run /all/mnt
mount -t devpts pts /all/dev/pts
for each in dev/shm run; do mount -t tmpfs tmpfs "/all/$each"; done
mount -t 9p -o "$share" out /all/mnt
ifconfig lo up
ifconfig dummy0 10.77.0.1 up
route add default dev dummy0
chroot /all /bin/bash /mnt/work </all/dev/null
poweroff -f
END
    chmod +x "$top/init"
}

# machine ACCELERATOR KERNEL OUT [PARAMETER]: takes the place of the shell that calls it, so that this can be ended
machine() {
    exec qemu-system-x86_64 -accel "$1" -cpu max -smp 2 -m 4G -nodefaults -display none -serial stdio -no-reboot \
        -kernel "$2" -initrd "$3/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off ${4:-}" \
        -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
        -virtfs local,path="$3",mount_tag=out,security_model=none </dev/null
}

# kvm_starts KERNEL OUT
kvm_starts() {
    [ -w /dev/kvm ] || return 1
    local left=60 started
    machine kvm "$1" "$2" plait_only_starts >/dev/null 2>&1 &
    started=$!
    while kill -0 "$started" 2>/dev/null; do
        if [ $((left--)) -eq 0 ]; then
            kill "$started"
            wait "$started" || true
            return 1
        fi
        sleep 1
    done
    wait "$started"
}

test_on_kernel() {
    local suite=$1 preset=$2 folder out image top accelerator=kvm scale='' limits=()
    shift 2
    folder=build/kernel/$suite
    out=$PWD/$folder.out
    need_machine
    [ -d "$folder/boot" ] || fetch_kernel "$suite" "$folder" || die "no kernel in Debian's '$suite'"
    image=$(echo "$folder"/boot/vmlinuz-*)
    rm -rf "$out"
    mkdir -p "$out"
    top=$(mktemp -d)
    first_files "$PWD/$folder" "${image#*/vmlinuz-}" "$top"
    (cd "$top" && find . | cpio --quiet -o -H newc) >"$out/initrd"
    rm -rf "$top"
    # Inside another virtual machine KVM may be there and start nothing. Without it all is some twenty times slower.
    if ! kvm_starts "$image" "$out"; then
        accelerator=tcg,thread=multi
        scale=0.05
        limits=(--timeout 2400)
        echo "dev: no KVM: the machine is slow, and the tests repeat less"
    fi
    {
        printf 'export PATH=%q HOME=%q LANG=C.UTF-8 PLAIT_TEST_PATIENCE=2400\n' "$PATH" "$HOME"
        printf 'ulimit -n %q -c 0\ncd %q\nuname -sr\n' "$(ulimit -n)" "$PWD"
        [ -z "$scale" ] ||
            printf 'sed -i s/PLAIT_TEST_SCALE=1\\;/PLAIT_TEST_SCALE=%s\\;/ build/%q/tests/CTestTestfile.cmake\n' \
                "$scale" "$preset"
        printf '%q ' ctest --preset "$preset" -E '^(tidy|reference|consumer)' "${limits[@]}" "$@"
        printf '\necho $? >/mnt/status\ncp build/%q/Testing/Temporary/LastTest.log /mnt/\n' "$preset"
    } >"$out/work"
    machine "$accelerator" "$image" "$out" | tee "$out/console"
    [ "$(cat "$out/status" 2>/dev/null)" = 0 ]
}
