// Which blocks are translated, and where their code lies.
import CLinux
import CSoftProcessor

/// Code for one block is never longer.
private var codeLimit: Int { 16 << 10 }

/// Puts an operation before a fresh block that counts its executions, if it can be translated.
func countExecutions(_ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>) {
  let wanted = UInt32(SOFT_MODE_FLAT | SOFT_MODE_CODE64)
  let mode = block.pointee.mode
  guard cpu.pointee.translations.writable != nil,
    mode & (wanted | UInt32(SOFT_MODE_SINGLE) | crossingMode) == wanted,
    block.pointee.physical_address != .max
  else { return }
  var counter = emptyOperation()
  counter.immediate = cpu.pointee.translations.threshold
  counter.handler = { cpu, operation in
    let left = operation.pointee.immediate
    guard left > 0 else { return translateHere(cpu, operation) }
    UnsafeMutablePointer(mutating: operation).pointee.immediate = left &- 1
    next(cpu, operation)
  }
  let entry = UnsafeMutablePointer(mutating: block.pointee.operations) - 1
  entry.pointee = counter
  block.pointee.entry = UnsafePointer(entry)
}

/// The counter's last: translates the block that begins, and enters it.
@inline(never)
private func translateHere(_ cpu: CPU, _ operation: Operation) {
  if let block = cpu.pointee.block, block.pointee.entry == operation { translate(cpu, block) }
  enterTranslated(cpu, operation)
}

@inline(__always)
private func enterTranslated(_ cpu: CPU, _ operation: Operation) {
  guard let block = cpu.pointee.block else { return next(cpu, operation) }
  let entry = block.pointee.entry
  entry.pointee.handler(cpu, entry)
}

/// Translates a block, or lets it be interpreted from now on.
@inline(never)
func translate(_ cpu: CPU, _ block: UnsafeMutablePointer<soft_block>) {
  let position = Int(cpu.pointee.translations.position)
  guard let writable = cpu.pointee.translations.writable,
    let executable = cpu.pointee.translations.executable
  else { return }
  guard position + codeLimit <= Int(cpu.pointee.translations.size) else {
    // Everything is dropped when the next block is decoded.
    cpu.pointee.cache.operation_count = UInt32(SOFT_CACHE_OPERATIONS)
    block.pointee.entry = block.pointee.operations
    return
  }
  var translator = Translator(
    cpu, block, HostAssembler(writable + position, capacity: codeLimit),
    origin: UInt(bitPattern: executable) + UInt(position))
  if translator.run() {
    cpu.pointee.translations.count &+= 1
  } else {
    block.pointee.entry = block.pointee.operations
  }
  cpu.pointee.translations.position += UInt64(translator.host.position + 15 & ~15)
}

/// The memory behind `soft_cpu.translations`: one file of memory, mapped once to be written and once to be executed.
final class TranslationMemory {
  private static let size = 32 << 20
  private let writable: UnsafeMutableRawPointer
  private let executable: UnsafeMutableRawPointer

  /// nil where the host refuses memory that can be executed: then nothing is translated.
  init?() {
    let file = linux_memfd_create("translated-code", UInt32(MFD_CLOEXEC))
    guard file >= 0 else { return nil }
    defer { close(file) }
    guard ftruncate(file, off_t(Self.size)) == 0,
      let writable = Self.map(file, PROT_READ | PROT_WRITE)
    else { return nil }
    guard let executable = Self.map(file, PROT_READ | PROT_EXEC) else {
      munmap(writable, Self.size)
      return nil
    }
    self.writable = writable
    self.executable = executable
  }

  private static func map(_ file: Int32, _ protection: Int32) -> UnsafeMutableRawPointer? {
    let address = mmap(nil, size, protection, MAP_SHARED | MAP_NORESERVE, file, 0)
    return address == linux_map_failed() ? nil : address
  }

  deinit {
    munmap(writable, Self.size)
    munmap(executable, Self.size)
  }

  func attach(_ cpu: CPU, threshold: UInt64) {
    cpu.pointee.translations.writable = writable.assumingMemoryBound(to: UInt8.self)
    cpu.pointee.translations.executable = UnsafePointer(
      executable.assumingMemoryBound(to: UInt8.self))
    cpu.pointee.translations.size = UInt64(Self.size)
    cpu.pointee.translations.threshold = threshold
  }
}

extension TranslationMemory {
  /// See `SoftProcessor.standardThreshold`.
  static func standardThreshold() -> UInt64? {
    guard let value = getenv("UNDERJACK_TRANSLATE") else { return 40 }
    let text = String(cString: value)
    return text == "off" ? nil : UInt64(text) ?? 40
  }
}
