import CLinux
import Devices
import DiskImage
import Platform
import Synchronization

/// A disc image, opened read-only. It can be taken away while a drive still reads it.
final class OpticalDisc: BlockBackend {
  let path: String
  let size: UInt64
  let isReadOnly = true
  /// Grows with what is read.
  private let counter: ByteCounter
  private let image: Mutex<(any BlockDevice)?>

  /// - Throws: `MachineError` naming the file.
  init(
    path: String, file: SharedDescriptor? = nil, counter: ByteCounter
  ) throws(MachineError) {
    let opened: any BlockDevice
    do throws(DiskImageError) {
      if let file {
        opened = try DiskImage.openRaw(file, path: path)
      } else {
        opened = try DiskImage.open(path, format: .raw, mode: .readOnly, backing: .refuse)
      }
    } catch {
      throw MachineError("\(error)")
    }
    guard opened.size >= Self.blockSize else {
      try? opened.close()
      throw MachineError("\(path): not a disc image: it is smaller than one block of 2048 bytes")
    }
    self.path = path
    self.counter = counter
    size = opened.size
    image = Mutex(opened)
  }

  private static let blockSize: UInt64 = 2048

  /// Waits for the read that is under way; later ones fail.
  func close() {
    image.withLock { image in
      try? image?.close()
      image = nil
    }
  }

  func read(
    into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
  ) throws(BlockBackendError) {
    nonisolated(unsafe) let target = buffer
    let isDone = image.withLock { image in
      guard let image else { return false }
      do {
        try image.read(into: target, at: offset)
        return true
      } catch {
        return false
      }
    }
    if !isDone { throw .system(EIO) }
    counter.add(buffer.count)
  }

  func write(from buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockBackendError) {
    throw .readOnly
  }
  func flush() throws(BlockBackendError) {}
  func discard(at offset: UInt64, count: UInt64) throws(BlockBackendError) { throw .readOnly }
  func writeZeroes(at offset: UInt64, count: UInt64) throws(BlockBackendError) { throw .readOnly }
}

/// A sum that any thread reads.
final class ByteCounter: Sendable {
  private let sum = Atomic<UInt64>(0)
  func add(_ count: Int) { sum.add(UInt64(clamping: count), ordering: .relaxed) }
  var value: UInt64 { sum.load(ordering: .relaxed) }
}

/// Which disc is in the machine's CD-ROM drive: stays through resets, which give the machine another drive.
final class OpticalTray: Sendable {
  private struct Content {
    var disc: OpticalDisc?
    var drive: OpticalDrive?
  }

  private let content: Mutex<Content>
  private let counter: ByteCounter

  /// - Throws: `MachineError` naming the file.
  init(path: String?) throws(MachineError) {
    let counter = ByteCounter()
    let disc: OpticalDisc? =
      if let path { try OpticalDisc(path: path, counter: counter) } else { nil }
    self.counter = counter
    content = Mutex(Content(disc: disc))
  }

  /// The image of the disc; nil for an empty drive.
  var path: String? { content.withLock { $0.disc?.path } }

  /// What was read from all discs.
  var bytesRead: UInt64 { counter.value }

  /// A drive for a new board, with the disc in it.
  func makeDrive(onEject: @escaping @Sendable () -> Void) -> OpticalDrive {
    content.withLock { content in
      let drive = OpticalDrive(medium: content.disc) { [weak self] in
        self?.guestDidEject()
        onEject()
      }
      content.drive = drive
      return drive
    }
  }

  /// Puts a disc in, in place of what is there. A drive that the guest has locked is opened all the same only where
  /// `force` says so.
  ///
  /// - Throws: `MachineError`; the old disc is still in then.
  func insert(
    path: String, file: SharedDescriptor? = nil, force: Bool
  ) throws(MachineError) {
    let disc = try OpticalDisc(path: path, file: file, counter: counter)
    let isInserted = content.withLock { content in
      if content.disc != nil, let drive = content.drive, !drive.eject(force: force) { return false }
      content.disc?.close()
      content.disc = disc
      content.drive?.insert(disc)
      return true
    }
    guard isInserted else {
      disc.close()
      throw Self.locked
    }
  }

  /// Takes the disc out; an empty drive stays as it is.
  func eject(force: Bool) throws(MachineError) {
    let isEjected = content.withLock { content in
      if let drive = content.drive, !drive.eject(force: force) { return false }
      content.disc?.close()
      content.disc = nil
      return true
    }
    if !isEjected { throw Self.locked }
  }

  private static let locked = MachineError(
    "the guest has locked the CD-ROM drive and was asked to let the disc go: unmount it there, or force it out"
  )

  private func guestDidEject() {
    content.withLock { content in
      // Another disc may have been put in meanwhile.
      guard content.drive?.hasMedium != true else { return }
      content.disc?.close()
      content.disc = nil
    }
  }

  /// With the last board.
  func close() {
    content.withLock { content in
      content.drive = nil
      content.disc?.close()
      content.disc = nil
    }
  }
}
