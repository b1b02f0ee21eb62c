// What goes through the queues of a virtio socket device (Virtual I/O Device 1.2, 5.10.6).

/// The header before every packet, in both directions.
struct VirtioSocketHeader: Equatable {
  static let size = 44
  /// The context identifier of the host.
  static let host: UInt64 = 2

  enum Kind {
    static let stream: UInt16 = 1
  }

  enum Operation {
    static let request: UInt16 = 1
    static let response: UInt16 = 2
    static let reset: UInt16 = 3
    static let shutdown: UInt16 = 4
    static let data: UInt16 = 5
    static let creditUpdate: UInt16 = 6
    static let creditRequest: UInt16 = 7
  }

  /// Flags of a shutdown: what its sender will not do any more.
  struct Shutdown: OptionSet {
    let rawValue: UInt32
    static let receives = Shutdown(rawValue: 1)
    static let sends = Shutdown(rawValue: 2)
    static let both: Shutdown = [.receives, .sends]
  }

  var source: UInt64
  var target: UInt64
  var sourcePort: UInt32
  var targetPort: UInt32
  /// Bytes behind the header.
  var length: UInt32 = 0
  var kind = Kind.stream
  var operation: UInt16
  var flags: UInt32 = 0
  /// Bytes of the sender's buffer for this connection.
  var bufferSize: UInt32 = 0
  /// Bytes of this connection that the sender has taken out of its buffer, modulo 2^32.
  var forwarded: UInt32 = 0

  init(
    source: UInt64, target: UInt64, sourcePort: UInt32, targetPort: UInt32, operation: UInt16
  ) {
    self.source = source
    self.target = target
    self.sourcePort = sourcePort
    self.targetPort = targetPort
    self.operation = operation
  }

  /// - Parameter bytes: `size` of them.
  init(_ bytes: UnsafeRawBufferPointer) {
    func load<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type) -> Value {
      Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: type))
    }
    source = load(0, as: UInt64.self)
    target = load(8, as: UInt64.self)
    sourcePort = load(16, as: UInt32.self)
    targetPort = load(20, as: UInt32.self)
    length = load(24, as: UInt32.self)
    kind = load(28, as: UInt16.self)
    operation = load(30, as: UInt16.self)
    flags = load(32, as: UInt32.self)
    bufferSize = load(36, as: UInt32.self)
    forwarded = load(40, as: UInt32.self)
  }

  /// - Parameter bytes: room for `size` of them.
  func store(in bytes: UnsafeMutableRawBufferPointer) {
    func put<Value: FixedWidthInteger>(_ value: Value, _ offset: Int) {
      bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }
    put(source, 0)
    put(target, 8)
    put(sourcePort, 16)
    put(targetPort, 20)
    put(length, 24)
    put(kind, 28)
    put(operation, 30)
    put(flags, 32)
    put(bufferSize, 36)
    put(forwarded, 40)
  }
}
