import NetworkGuests
import TestGuests

/// Linux with drivers of devices that real machines have. Made once a process and kept to its end.
enum HardwareGuest {
  static let guest: Result<NetworkGuest, TestGuestError> = {
    do {
      return .success(
        try NetworkGuest(
          .full,
          modules: [
            "drivers/scsi/scsi_common", "drivers/scsi/scsi_mod", "crypto/crct10dif_common",
            "crypto/crct10dif_generic", "lib/crc-t10dif", "lib/crc64",
            "crypto/crc64_rocksoft_generic",
            "lib/crc64-rocksoft", "block/t10-pi", "drivers/scsi/sd_mod", "drivers/cdrom/cdrom",
            "drivers/scsi/sr_mod", "fs/isofs/isofs", "drivers/ata/libata", "drivers/ata/ata_piix",
            "drivers/watchdog/watchdog", "drivers/watchdog/i6300esb",
            "drivers/misc/pvpanic/pvpanic",
            "drivers/misc/pvpanic/pvpanic-pci", "fs/netfs/netfs", "fs/fscache/fscache",
            "net/9p/9pnet", "net/9p/9pnet_virtio", "fs/9p/9p",
          ], in: try TestFolder.make("hardware")))
    } catch {
      return .failure(TestGuestError("\(error)"))
    }
  }()

  static let missing: String? = {
    if let reason = NetworkedMachine.missing { return reason }
    if case .failure(let error) = guest { return "\(error)" }
    return nil
  }()
}
