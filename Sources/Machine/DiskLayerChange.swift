import DiskImage
import Platform

/// A fresh layer for one disk of a running machine.
public struct DiskLayerChange: Sendable, Equatable {
  /// Index in `MachineConfiguration.disks`.
  public var disk: Int
  /// A qcow2 image without content that rests on the disk's present image.
  public var path: String

  public init(disk: Int, path: String) {
    self.disk = disk
    self.path = path
  }
}

extension Machine {
  /// How long requests that are under way may take.
  private static let drainMilliseconds = 2000

  /// Puts a fresh layer on each of the disks, all at one instant: the guest's requests are held up meanwhile, and what it
  /// has written is made durable below. Nothing stops but the disks. Callable from any thread, one at a time.
  ///
  /// - Parameter commit: Makes the change last, while no request is under way; when it throws, nothing has changed.
  /// - Returns: nanoseconds for which requests were held up.
  /// - Throws: `MachineError`, or what `commit` throws; the disks go on as they were.
  public func pushLayers(
    _ changes: [DiskLayerChange], commit: () throws -> Void
  ) throws -> UInt64 {
    var layers: [(backend: DiskBackend, layer: PreparedLayer)] = []
    for change in changes {
      guard parts.disks.indices.contains(change.disk) else {
        throw MachineError("\(configuration.name) has no disk \(change.disk)")
      }
      let backend = parts.disks[change.disk]
      layers.append((backend, try backend.prepareLayer(change.path)))
    }
    // Most of what has to reach the disk does so before anybody has to wait.
    for (backend, _) in layers { try backend.flushForLayer() }
    let begin = MonotonicClock.now
    var shut: [DiskBackend] = []
    defer { for backend in shut { backend.image.open() } }
    for (backend, _) in layers {
      guard backend.image.shut(milliseconds: Self.drainMilliseconds) else {
        throw MachineError("\(backend.image.path): requests do not end; try again")
      }
      shut.append(backend)
    }
    for (backend, _) in layers { try backend.settleForLayer() }
    try commit()
    for (backend, layer) in layers { backend.image.exchange(for: layer) }
    return MonotonicClock.now &- begin
  }
}

extension DiskBackend {
  fileprivate func prepareLayer(_ path: String) throws(MachineError) -> PreparedLayer {
    do { return try image.prepareLayer(path) } catch { throw MachineError("\(error)") }
  }

  fileprivate func flushForLayer() throws(MachineError) {
    do { try image.flush() } catch { throw MachineError("\(error)") }
  }

  fileprivate func settleForLayer() throws(MachineError) {
    do { try image.settle() } catch { throw MachineError("\(error)") }
  }
}
