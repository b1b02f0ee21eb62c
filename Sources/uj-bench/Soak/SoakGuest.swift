import Hosting
import Platform

/// The guest of the soak: Linux with a script that counts, and keeps its count on a disk.
///
/// Each number is written twice: into the first 4 KiB of the disk, and, before that, into one of 1023 places behind it.
/// After a start the script looks whether the places hold what the first 4 KiB promise. What it prints:
///
/// - `BOOT n.` it found the number n
/// - `COUNT n.` the number n is on the disk, flushed
/// - `BAD ...` a place does not hold what it should
/// - `REFUSED n.` the disk took no write: the number is tried again
enum SoakGuest {
  /// An archive to be put behind the demonstration's first root file system, whose init it replaces.
  static var archive: [UInt8] {
    var archive = InitramfsArchive()
    archive.addFile("init", mode: 0o755, content: Array(script.utf8))
    archive.finish()
    return archive.bytes
  }

  private static let script = """
    #!/bin/sh
    /bin/busybox --install -s /bin
    export PATH=/bin HOME=/
    mount -t proc none /proc
    mount -t sysfs none /sys
    mount -t devtmpfs none /dev
    for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk evdev button
    do [ -e /modules/$module.ko ] && insmod /modules/$module.ko
    done
    acpid
    read_number() { dd if=/dev/vda bs=4096 skip=$1 count=1 2>/dev/null | tr -d '\\0' | head -n 1; }
    n=$(read_number 0)
    case "$n" in ''|*[!0-9]*) n=0;; esac
    echo "BOOT $n."
    i=$n
    while [ $i -gt 0 ] && [ $i -gt $((n - 30)) ]
    do
      found=$(read_number $((1 + i % 1023)))
      [ "$found" = "$i" ] || echo "BAD place of $i holds '$found'."
      i=$((i - 1))
    done
    while true
    do
      m=$((n + 1))
      if echo $m | dd of=/dev/vda bs=4096 seek=$((1 + m % 1023)) conv=notrunc,fsync,sync 2>/dev/null &&
        echo $m | dd of=/dev/vda bs=4096 seek=0 conv=notrunc,fsync,sync 2>/dev/null
      then
        n=$m
        echo "COUNT $n."
        if [ $((n % 40)) = 0 ]
        then i=0; while [ $i -lt 2000 ]; do echo "flood flood flood flood flood flood $i"; i=$((i + 1)); done
        fi
      else
        echo "REFUSED $m."
      fi
      sleep 2
    done

    """
}
