import CLinux
import Devices
import Platform

/// A character device's host end that writes a file, as for the debug port. What does not fit on the disk is lost.
package final class FileBackend: CharacterBackend {
  private let file: FileDescriptor

  package init(_ path: String) throws(HostingError) {
    file = try platform { () throws(PlatformError) in
      try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND)
    }
  }

  package func guestDidSend(_ bytes: UnsafeRawBufferPointer) {
    _ = write(file.rawValue, bytes.baseAddress, bytes.count)
  }

  package func guestCanReceive() {}
}
