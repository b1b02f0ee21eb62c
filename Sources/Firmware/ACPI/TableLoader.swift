// The script by which firmware puts tables into memory: QEMU's fw_cfg file etc/table-loader. Entries of 128 bytes,
// little-endian; file names take 56 of them.

/// Makes the script for a set of table blocks.
struct TableLoader {
  private enum Command: UInt32 {
    /// Get memory, read a file into it.
    case allocate = 1
    /// Add a file's address to an integer in another file.
    case addPointer = 2
    /// Make the sum of a range zero.
    case addChecksum = 3
  }

  private enum Zone: UInt8 {
    /// Anywhere below 4 GiB.
    case high = 1
    /// 0xF0000 to 0xFFFFF.
    case firmwareSegment = 2
  }

  private static let entrySize = 128
  private static let nameSize = 56
  private(set) var bytes: [UInt8] = []

  init(_ images: [TableImage]) {
    for image in images {
      add(.allocate) { entry in
        entry.append(text: image.file, count: Self.nameSize)
        entry.append(little: UInt32(image.alignment))
        entry.append((image.isSearched ? Zone.firmwareSegment : .high).rawValue)
      }
    }
    for image in images {
      for pointer in image.pointers {
        add(.addPointer) { entry in
          entry.append(text: image.file, count: Self.nameSize)
          entry.append(text: pointer.target, count: Self.nameSize)
          entry.append(little: UInt32(pointer.offset))
          entry.append(UInt8(pointer.size))
        }
      }
      // After the addresses: they are part of the sums.
      for sum in image.checksums {
        add(.addChecksum) { entry in
          entry.append(text: image.file, count: Self.nameSize)
          entry.append(little: UInt32(sum.offset))
          entry.append(little: UInt32(sum.range.lowerBound))
          entry.append(little: UInt32(sum.range.count))
        }
      }
    }
  }

  private mutating func add(_ command: Command, _ build: (inout [UInt8]) -> Void) {
    var entry: [UInt8] = []
    entry.append(little: command.rawValue)
    build(&entry)
    entry.appendZeros(Self.entrySize - entry.count)
    bytes.append(contentsOf: entry)
  }
}
