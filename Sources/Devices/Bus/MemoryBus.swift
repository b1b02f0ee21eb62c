import GuestMemory
import Processor
import Synchronization

/// Guest-physical addresses that are not RAM: a sorted table, searched without a lock.
///
/// A change builds a new table and publishes it with one atomic store. Old tables are kept until `collect` is called with
/// no processor in a look-up, because a processor may still be reading one; `needsCollection` tells when it is time, so
/// that a guest that moves BARs for ever does not fill the host's memory.
public final class MemoryBus: @unchecked Sendable {
  // @unchecked: `current` is atomic; `entries`, `retired` and `owners` are changed under `changes`.
  private struct Entry {
    let base: UInt64
    let last: UInt64
    let offset: UInt64
    unowned(unsafe) let device: any BusDevice
  }

  private final class Table {
    let count: Int
    let entries: UnsafeMutablePointer<Entry>
    init(_ list: [Entry]) {
      count = list.count
      entries = .allocate(capacity: max(count, 1))
      for (index, entry) in list.enumerated() { (entries + index).initialize(to: entry) }
    }
    deinit { entries.deallocate() }
  }

  private struct Changes {
    var entries: [Entry] = []
    var tables: [Table] = []
    var owners: [any BusDevice] = []
  }

  /// Retired tables that are kept before a collection is asked for.
  private static let retiredLimit = 256
  private let current: Atomic<UnsafeRawPointer>
  private let collectionIsDue = Atomic<Bool>(false)
  private let changes: Mutex<Changes>

  public init() {
    let table = Table([])
    current = Atomic(UnsafeRawPointer(Unmanaged.passUnretained(table).toOpaque()))
    changes = Mutex(Changes(tables: [table]))
  }

  /// Gives `count` bytes from `base` to `device`, whose own offsets begin at `offset`.
  ///
  /// Where devices overlap, the one registered last is found (a guest that lays BARs over each other gets either).
  public func register(
    _ device: any BusDevice, at base: GuestAddress, count: UInt64, offset: UInt64 = 0
  ) {
    guard count > 0 else { return }
    let (last, overflow) = base.rawValue.addingReportingOverflow(count - 1)
    let entry = Entry(
      base: base.rawValue, last: overflow ? .max : last, offset: offset, device: device)
    changes.withLock { changes in
      if !changes.owners.contains(where: { $0 === device }) { changes.owners.append(device) }
      changes.entries.append(entry)
      publish(&changes)
    }
  }

  /// Takes the range that begins at `base` from `device`.
  public func unregister(_ device: any BusDevice, at base: GuestAddress) {
    changes.withLock { changes in
      changes.entries.removeAll { $0.base == base.rawValue && $0.device === device }
      publish(&changes)
    }
  }

  /// Many tables have been replaced since the last collection. Cheap enough to ask after every exit.
  @inline(__always)
  public var needsCollection: Bool { collectionIsDue.load(ordering: .relaxed) }

  /// Frees tables that were replaced. Only while no processor is in `read` or `write`.
  public func collect() {
    changes.withLock { changes in
      collectionIsDue.store(false, ordering: .relaxed)
      if changes.tables.count > 1 { changes.tables.removeFirst(changes.tables.count - 1) }
    }
  }

  /// Tables that are held, the published one included.
  package var tableCount: Int { changes.withLock { $0.tables.count } }

  /// Cuts what a later registration covers out of earlier ones, sorts, and publishes.
  private func publish(_ changes: inout Changes) {
    var flat: [Entry] = []
    for entry in changes.entries {
      flat = flat.flatMap { old in Self.cut(entry, outOf: old) }
      flat.append(entry)
    }
    flat.sort { $0.base < $1.base }
    let table = Table(flat)
    changes.tables.append(table)
    if changes.tables.count > Self.retiredLimit { collectionIsDue.store(true, ordering: .relaxed) }
    current.store(
      UnsafeRawPointer(Unmanaged.passUnretained(table).toOpaque()), ordering: .releasing)
  }

  private static func cut(_ new: Entry, outOf old: Entry) -> [Entry] {
    if new.last < old.base || new.base > old.last { return [old] }
    var rest: [Entry] = []
    if old.base < new.base {
      rest.append(
        Entry(base: old.base, last: new.base - 1, offset: old.offset, device: old.device))
    }
    if old.last > new.last {
      rest.append(
        Entry(
          base: new.last + 1, last: old.last, offset: old.offset &+ (new.last + 1 - old.base),
          device: old.device))
    }
    return rest
  }

  /// Who answers somewhere in a page, for lists.
  package func device(inPage base: UInt64) -> (any BusDevice)? {
    changes.withLock { changes in
      changes.entries.last { $0.base <= base | 0xFFF && $0.last >= base & ~0xFFF }?.device
    }
  }

  @inline(__always)
  private func find(_ address: UInt64) -> UnsafePointer<Entry>? {
    let table = Unmanaged<Table>.fromOpaque(current.load(ordering: .acquiring))
    return table._withUnsafeGuaranteedRef { table in
      var low = 0
      var high = table.count
      while low < high {
        let middle = (low &+ high) >> 1
        if table.entries[middle].last < address { low = middle &+ 1 } else { high = middle }
      }
      guard low < table.count, table.entries[low].base <= address else { return nil }
      return UnsafePointer(table.entries + low)
    }
  }

  /// One access. Nobody there: all ones. The range is taken from the first byte.
  @inline(__always)
  public func read(at address: GuestAddress, width: AccessWidth) -> UInt64 {
    guard let entry = find(address.rawValue) else { return width.mask }
    let offset = address.rawValue &- entry.pointee.base &+ entry.pointee.offset
    return entry.pointee.device.read(at: offset, width: width) & width.mask
  }

  /// One access. Nobody there: swallowed.
  @inline(__always)
  public func write(at address: GuestAddress, width: AccessWidth, value: UInt64) {
    guard let entry = find(address.rawValue) else { return }
    let offset = address.rawValue &- entry.pointee.base &+ entry.pointee.offset
    entry.pointee.device.write(at: offset, width: width, value: value & width.mask)
  }
}
