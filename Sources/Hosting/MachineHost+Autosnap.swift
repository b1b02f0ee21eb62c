import Inventory
import Machine
import Platform
import StateFile
import Synchronization

/// Snapshots that the clock takes: `autosnap` in `machine.toml`.
final class AutosnapClock: @unchecked Sendable {
  // @unchecked: everything but `isBusy` belongs to the host's loop.
  var due: UInt64
  /// One is being taken.
  let isBusy = Monitor(false)
  /// What was said last when one could not be taken; the same is not said again.
  let complaint = Monitor<String?>(nil)

  init(_ autosnap: Autosnap) {
    due = MonotonicClock.now &+ UInt64(autosnap.interval) &* 1_000_000_000
  }
}

extension MachineHost {
  /// Fresh layers below a disk at most: while the machine runs none of them can be merged, and each makes reading slower.
  private static let layerLimit = 256

  /// On the loop's thread, once a second.
  func tickAutosnap(_ now: UInt64) {
    guard let autosnap = plan.autosnap, let claim = plan.claim, let clock = autosnapClock,
      now >= clock.due
    else { return }
    clock.due = now &+ UInt64(autosnap.interval) &* 1_000_000_000
    // A guest that does nothing more, or stands still, has its last snapshot already.
    guard machine.runState == .running,
      clock.isBusy.update({ busy in
        defer { busy = true }
        return !busy
      })
    else { return }
    do {
      _ = try PosixThread(name: "autosnap") { [self] in
        defer { clock.isBusy.update { $0 = false } }
        let failure = snapshotWork.withLock { _ in takeCheckpoint(autosnap, claim) }
        let isNews = clock.complaint.update { last in
          defer { last = failure }
          return failure != nil && failure != last
        }
        if isNews, let failure {
          loop.perform { [weak self] in self?.noteMessage("autosnap: \(failure)") }
        }
      }
    } catch {
      clock.isBusy.update { $0 = false }
    }
  }

  /// - Returns: why there is none, in a line.
  private func takeCheckpoint(_ autosnap: Autosnap, _ claim: HostPlan.Claim) -> String? {
    let (inventory, name) = (claim.inventory, claim.name)
    do {
      let state = try inventory.state(name)
      guard state.disks.allSatisfy({ $0.parents.count < Self.layerLimit }) else {
        return "rests: a disk has \(Self.layerLimit) layers; they are merged when \(name) is off "
          + "('uj snapshot merge \(name)')"
      }
      // Numbers are not used again while later ones are there.
      let numbers = state.snapshots.compactMap { snapshot in
        snapshot.name.hasPrefix(Self.title) ? Int(snapshot.name.dropFirst(Self.title.count)) : nil
      }
      let number = min(numbers.max() ?? 0, 1 << 40) + 1
      _ = try takeWithMemory("\(Self.title)\(number)", claim, isCheckpoint: true)
      if try inventory.pruneCheckpoints(name, autosnap) > 0 { trimMemoryStates(claim) }
      return nil
    } catch {
      return "\(error)"
    }
  }

  private static let title = "checkpoint-"

  /// Gives back what no snapshot needs of earlier states' memory. While no snapshot is taken.
  func trimMemoryStates(_ claim: HostPlan.Claim) {
    var mapped: Set<String> = []
    if let path = plan.configuration.savedState {
      // The guest's memory is these files' until it writes there.
      let parts = path.split(separator: "/")
      if parts.count > 1 { mapped.insert(String(parts[parts.count - 2])) }
      mapped.formUnion(mappedStates)
    }
    claim.inventory.trimMemoryStates(claim.name, mapped: mapped)
  }
}
