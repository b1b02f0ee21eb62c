import Processor

extension VirtualProcessor {
  /// Whether nothing that the guest has set up can make the processor go on: it is halted with interrupts off, or
  /// waits to be started by another one. Between exits only; looks at the interrupt flag as of the last exit.
  public func isWaitingForever() throws(KVMError) -> Bool {
    switch try readMultiprocessingState() {
    case .halted: !interruptsAreEnabled
    case .uninitialized, .initReceived: true
    case .runnable, .startupReceived: false
    }
  }
}
