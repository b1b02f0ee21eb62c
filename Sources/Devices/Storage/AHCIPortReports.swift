// How a port tells its driver what became of commands: frames in memory, task file and interrupt causes (Serial ATA AHCI
// 1.3.1, 5.3 and 6.2).

import GuestMemory

extension AHCIPortEngine {
  /// Changes the registers, unless what is reported is void.
  func report(
    _ controller: AHCIController, _ body: (inout AHCIPortRegisters) -> Void
  ) {
    controller.withPort(index) { registers, _ in
      if registers.lifetime == lifetime && !registers.isHalted { body(&registers) }
    }
  }

  func fail(_ controller: AHCIController, _ cause: UInt32) {
    report(controller) { registers in
      registers.taskFile &= ~UInt32(ATAAnswer.Status.busy)
      registers.fail(cause)
    }
  }

  /// The first frame after a reset.
  func sign(_ registers: inout AHCIPortRegisters, _ memory: GuestMemory) {
    registers.owesSignature = false
    registers.setTaskFile(device.signature)
    registers.signature = device.signature.signature
    let isStored = AHCIFrame.storeRegisters(
      device.signature, interrupts: false, at: registers.receiveArea, memory: memory)
    if !isStored { registers.fail(Interrupt.hostFatal) }
  }

  /// Ends a command that is not queued.
  ///
  /// - Parameters:
  ///   - sent: bytes of data to the host that end a programmed command.
  ///   - packetData: bytes of a packet's data.
  func finish(
    _ controller: AHCIController, _ header: AHCICommandHeader, _ number: UInt32,
    _ answer: ATAAnswer, _ transport: ATAProtocol = .direct, sent: UInt64 = 0,
    packetData: UInt64 = 0
  ) {
    let memory = controller.memory
    report(controller) { registers in
      registers.setTaskFile(answer)
      var isStored = true
      let isProgrammed = transport == .programmed && !answer.isError
      if isProgrammed && sent &+ packetData > 0 {
        isStored = AHCIFrame.storeProgrammedSetup(
          answer, count: sent &+ packetData, toHost: true, at: registers.receiveArea,
          memory: memory)
        registers.interruptStatus |= Interrupt.programmedSetup
      }
      if !isProgrammed || sent == 0 {
        isStored =
          isStored
          && AHCIFrame.storeRegisters(
            answer, interrupts: true, at: registers.receiveArea, memory: memory)
        registers.interruptStatus |= Interrupt.deviceToHost
      }
      if header.signalsDescriptors { registers.interruptStatus |= Interrupt.descriptorDone }
      if !isStored {
        registers.fail(Interrupt.hostFatal)
      } else if answer.isError {
        registers.fail(Interrupt.taskFileError)
      } else {
        registers.issue &= ~(1 << number)
      }
    }
  }

  func reportDone(_ controller: AHCIController) {
    guard doneTags != 0 else { return }
    let done = doneTags
    doneTags = 0
    report(controller) { registers in
      registers.active &= ~done
      registers.setTaskFile(.good)
      registers.interruptStatus |= Interrupt.deviceBits
      if !AHCIFrame.storeDeviceBits(
        status: ATAAnswer.good.status, error: 0, done: done, at: registers.receiveArea,
        memory: controller.memory)
      {
        registers.fail(Interrupt.hostFatal)
      }
    }
  }

  /// All queued commands are given up; the log says which of them failed.
  func failQueue(
    _ registers: inout AHCIPortRegisters, _ answer: ATAAnswer, _ memory: GuestMemory
  ) {
    let status = ATAAnswer.Status.ready | ATAAnswer.Status.error
    registers.taskFile = UInt32(answer.error) << 8 | UInt32(status)
    registers.interruptStatus |= Interrupt.deviceBits
    let isStored = AHCIFrame.storeDeviceBits(
      status: status, error: answer.error, done: 0, at: registers.receiveArea, memory: memory)
    registers.fail(isStored ? Interrupt.taskFileError : Interrupt.hostFatal)
  }
}
