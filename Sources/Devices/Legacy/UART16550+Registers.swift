/// Register names and bits of the PC16550D (National Semiconductor data sheet, June 1995, section 8).
extension UART16550 {
  /// Offsets from the base port.
  package enum Register {
    /// Receiver buffer (read), transmitter holding (write); divisor latch low with DLAB.
    package static let data: UInt64 = 0
    /// Interrupt enable; divisor latch high with DLAB.
    package static let interruptEnable: UInt64 = 1
    /// Interrupt identification (read), FIFO control (write).
    package static let interruptIdentification: UInt64 = 2
    package static let lineControl: UInt64 = 3
    package static let modemControl: UInt64 = 4
    package static let lineStatus: UInt64 = 5
    package static let modemStatus: UInt64 = 6
    package static let scratch: UInt64 = 7
  }

  package struct InterruptEnable: OptionSet, Sendable, Hashable, Codable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// ERBFI
    package static let receivedData = Self(rawValue: 1 << 0)
    /// ETBEI
    package static let transmitterEmpty = Self(rawValue: 1 << 1)
    /// ELSI
    package static let lineStatus = Self(rawValue: 1 << 2)
    /// EDSSI
    package static let modemStatus = Self(rawValue: 1 << 3)
    static let writable: UInt8 = 0x0F
  }

  /// IIR bits 3 to 0, in falling priority; bits 7 and 6 are set while the FIFOs are on.
  package enum InterruptCause: UInt8, Sendable {
    case lineStatus = 0x6
    case receivedData = 0x4
    case characterTimeout = 0xC
    case transmitterEmpty = 0x2
    case modemStatus = 0x0
    static let none: UInt8 = 0x1
    static let fifosEnabled: UInt8 = 0xC0
  }

  package struct FIFOControl: OptionSet, Sendable, Hashable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let enable = Self(rawValue: 1 << 0)
    package static let clearReceiver = Self(rawValue: 1 << 1)
    package static let clearTransmitter = Self(rawValue: 1 << 2)
    /// Changes RXRDY and TXRDY, which a PC does not connect.
    package static let dmaMode = Self(rawValue: 1 << 3)
    /// Bits 7 and 6 choose how many received bytes interrupt.
    static let triggerLevels: [Int] = [1, 4, 8, 14]
  }

  package struct LineControl: OptionSet, Sendable, Hashable, Codable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// Bits 1 and 0: data bits less 5.
    package static let wordLength = Self(rawValue: 0x03)
    /// Two stop bits (one and a half with 5 data bits).
    package static let stopBits = Self(rawValue: 1 << 2)
    package static let parityEnable = Self(rawValue: 1 << 3)
    package static let evenParity = Self(rawValue: 1 << 4)
    package static let stickParity = Self(rawValue: 1 << 5)
    package static let setBreak = Self(rawValue: 1 << 6)
    /// DLAB
    package static let divisorLatchAccess = Self(rawValue: 1 << 7)
  }

  package struct ModemControl: OptionSet, Sendable, Hashable, Codable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let dataTerminalReady = Self(rawValue: 1 << 0)
    package static let requestToSend = Self(rawValue: 1 << 1)
    package static let output1 = Self(rawValue: 1 << 2)
    /// On a PC, the gate between the chip's interrupt pin and the ISA line.
    package static let output2 = Self(rawValue: 1 << 3)
    package static let loopback = Self(rawValue: 1 << 4)
    static let writable: UInt8 = 0x1F
  }

  package struct LineStatus: OptionSet, Sendable, Hashable, Codable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let dataReady = Self(rawValue: 1 << 0)
    package static let overrunError = Self(rawValue: 1 << 1)
    package static let parityError = Self(rawValue: 1 << 2)
    package static let framingError = Self(rawValue: 1 << 3)
    package static let breakInterrupt = Self(rawValue: 1 << 4)
    /// THRE
    package static let transmitterHoldingEmpty = Self(rawValue: 1 << 5)
    /// TEMT
    package static let transmitterEmpty = Self(rawValue: 1 << 6)
    /// A byte with an error is in the receiver FIFO.
    package static let fifoError = Self(rawValue: 1 << 7)
    /// The bits that a read of the register clears, and that interrupt.
    package static let errors: Self = [
      .overrunError, .parityError, .framingError, .breakInterrupt,
    ]
  }

  package struct ModemStatus: OptionSet, Sendable, Hashable, Codable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let deltaClearToSend = Self(rawValue: 1 << 0)
    package static let deltaDataSetReady = Self(rawValue: 1 << 1)
    package static let trailingEdgeRing = Self(rawValue: 1 << 2)
    package static let deltaCarrierDetect = Self(rawValue: 1 << 3)
    package static let clearToSend = Self(rawValue: 1 << 4)
    package static let dataSetReady = Self(rawValue: 1 << 5)
    package static let ringIndicator = Self(rawValue: 1 << 6)
    package static let carrierDetect = Self(rawValue: 1 << 7)
    package static let deltas: Self = [
      .deltaClearToSend, .deltaDataSetReady, .trailingEdgeRing, .deltaCarrierDetect,
    ]
    package static let inputs: Self = [.clearToSend, .dataSetReady, .ringIndicator, .carrierDetect]
  }
}
