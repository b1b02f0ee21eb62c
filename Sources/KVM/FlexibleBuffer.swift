/// Memory for a kernel structure that ends in an array of variable length: a header, then entries (plain C structures).
struct FlexibleBuffer<Entry>: ~Copyable {
  let base: UnsafeMutableRawPointer
  private let headerSize: Int
  let capacity: Int

  /// Zeroed. `headerSize` in bytes is where the first entry stands.
  init(headerSize: Int, capacity: Int) {
    self.headerSize = headerSize
    self.capacity = capacity
    let size = headerSize + capacity * MemoryLayout<Entry>.stride
    base = .allocate(byteCount: size, alignment: 16)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: size)
  }

  deinit { base.deallocate() }

  /// The first word of all these structures: how many entries are in use.
  var count: Int {
    get { Int(base.load(as: UInt32.self)) }
    nonmutating set { base.storeBytes(of: UInt32(newValue), as: UInt32.self) }
  }

  subscript(index: Int) -> Entry {
    get { entries[checked(index)] }
    nonmutating set { entries[checked(index)] = newValue }
  }

  private var entries: UnsafeMutablePointer<Entry> {
    (base + headerSize).assumingMemoryBound(to: Entry.self)
  }

  private func checked(_ index: Int) -> Int {
    precondition(index >= 0 && index < capacity)
    return index
  }
}
