import CLinux
import Platform
import Processor

/// Why the kernel's virtual machine cannot be had or refuses a request. One line for a person.
public enum KVMError: Error, Equatable, CustomStringConvertible {
  /// No such device.
  case notAvailable(path: String)
  case permissionDenied(path: String)
  /// Another hypervisor owns the hardware.
  case busy
  /// The device is not the KVM interface that this program speaks.
  case unsupportedInterface(path: String, version: Int32)
  /// The kernel is too old or was built without something.
  case missingCapability(String)
  /// A request that no kernel would accept.
  case invalidRequest(String)
  case system(PlatformError)

  public var description: String {
    switch self {
    case .notAvailable(let path):
      "this host has no KVM (\(path) does not exist): load kvm_intel or kvm_amd, switch virtualization on in the firmware, or use --accel soft"
    case .permissionDenied(let path):
      "no permission to open \(path): add yourself to group kvm (sudo usermod -aG kvm $USER) and log in again"
    case .busy:
      "KVM is busy: another hypervisor on this host uses the processor's virtualization; stop it or use --accel soft"
    case .unsupportedInterface(let path, let version):
      "\(path) speaks KVM interface version \(version), not 12: use Linux 5.10 or later"
    case .missingCapability(let name):
      "this kernel's KVM has no \(name): use Linux 5.10 or later"
    case .invalidRequest(let reason): "KVM: \(reason)"
    case .system(let error): "KVM: \(error)"
    }
  }

  /// As the error type of the `Processor` protocol.
  package var asProcessorError: ProcessorError { ProcessorError(description) }
}

/// ioctl(2), with -1 as a typed error.
@discardableResult
@inline(__always)
package func request(
  _ descriptor: Int32, _ name: StaticString, _ number: UInt, _ argument: UInt = 0
) throws(KVMError) -> Int32 {
  do {
    return try systemCall(name) { linux_ioctl(descriptor, number, argument) }
  } catch {
    throw .system(error)
  }
}

/// ioctl(2) with the address of a structure.
@discardableResult
@inline(__always)
package func request(
  _ descriptor: Int32, _ name: StaticString, _ number: UInt, _ argument: UnsafeMutableRawPointer
) throws(KVMError) -> Int32 {
  do {
    return try systemCall(name) { linux_ioctl_pointer(descriptor, number, argument) }
  } catch {
    throw .system(error)
  }
}

// The structures are C's: plain bytes, though Swift says so (BitwiseCopyable) only of those without a union.

/// ioctl(2) that only reads a structure.
@discardableResult
@inline(__always)
package func request<Structure>(
  _ descriptor: Int32, _ name: StaticString, _ number: UInt, reading structure: Structure
) throws(KVMError) -> Int32 {
  var copy = structure
  return try withUnsafeMutablePointer(to: &copy) { pointer throws(KVMError) in
    try request(descriptor, name, number, UnsafeMutableRawPointer(pointer))
  }
}

/// ioctl(2) that fills in a structure.
@inline(__always)
package func request<Structure>(
  _ descriptor: Int32, _ name: StaticString, _ number: UInt, filling structure: inout Structure
) throws(KVMError) {
  try withUnsafeMutablePointer(to: &structure) { pointer throws(KVMError) in
    _ = try request(descriptor, name, number, UnsafeMutableRawPointer(pointer))
  }
}
