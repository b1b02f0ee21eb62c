import Synchronization

/// Port 0x80: firmware writes how far it is; kernels write to it to let a microsecond pass.
///
/// State is the last code, which only a person reads: not saved.
package final class PostCodePort: BusDevice {
  package static let port: UInt16 = 0x80
  private let code = Atomic<UInt8>(0)

  package init() {}

  /// The last code written.
  package var lastCode: UInt8 { code.load(ordering: .relaxed) }

  package func read(at offset: UInt64, width: AccessWidth) -> UInt64 { UInt64(lastCode) }

  package func write(at offset: UInt64, width: AccessWidth, value: UInt64) {
    code.store(UInt8(truncatingIfNeeded: value), ordering: .relaxed)
  }
}
