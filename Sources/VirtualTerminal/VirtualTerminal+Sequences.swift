// What each escape and control sequence does. Names are those of ECMA-48 and the VT220 manual.

extension VirtualTerminal {
  /// ESC, intermediates, final.
  mutating func escapeSequence(_ final: UInt8) {
    let intermediate = UInt8(truncatingIfNeeded: parser.intermediates)
    let first = parser.intermediates > 0xFF ? UInt8(parser.intermediates >> 8) : intermediate
    switch first {
    case 0: plainEscape(final)
    case 0x23: if final == 0x38 { fillWithAlignmentPattern() }
    case 0x25 where parser.intermediates <= 0xFF:
      // ISO 2022 "other coding system": @ is the standard's own, G and 8 are UTF-8.
      if final == 0x40 { parser.decodesUTF8 = false }
      if final == 0x47 || final == 0x38 { parser.decodesUTF8 = true }
    case 0x28...0x2B:
      sets[Int(first) - 0x28] = CharacterSet(
        final: final, has96Characters: false,
        intermediate: parser.intermediates > 0xFF ? intermediate : 0)
    case 0x2D...0x2F:
      sets[Int(first) - 0x2C] = CharacterSet(final: final, has96Characters: true, intermediate: 0)
    default: break
    }
  }

  private mutating func plainEscape(_ final: UInt8) {
    switch final {
    case 0x37: saveCursor()  // DECSC
    case 0x38: restoreCursor()  // DECRC
    case 0x3D: setMode(.applicationKeypad, true)  // DECKPAM
    case 0x3E: setMode(.applicationKeypad, false)  // DECKPNM
    case 0x44: index()  // IND
    case 0x45:  // NEL
      index()
      carriageReturn()
    case 0x48: tabs.set(cursor.column)  // HTS
    case 0x4D: reverseIndex()  // RI
    case 0x4E: sets.single = 2  // SS2
    case 0x4F: sets.single = 3  // SS3
    case 0x56: setPenAttribute(.protected, true)  // SPA
    case 0x57: setPenAttribute(.protected, false)  // EPA
    case 0x5A: deviceAttributes()  // DECID
    case 0x63: reset()  // RIS
    case 0x6E: sets.left = 2  // LS2
    case 0x6F: sets.left = 3  // LS3
    case 0x7C: sets.right = 3  // LS3R
    case 0x7D: sets.right = 2  // LS2R
    case 0x7E: sets.right = 1  // LS1R
    default: break
    }
  }

  /// A numeric parameter, at least 1.
  private func count(_ index: Int = 0) -> Int { max(Int(parameter(index)), 1) }

  /// A numeric parameter; 0 when it is not there.
  func parameter(_ index: Int) -> UInt16 {
    index < parser.parameters.count ? parser.parameters[index] : 0
  }

  /// CSI, prefix, parameters, intermediates, final.
  mutating func controlSequence(_ final: UInt8) {
    switch (parser.prefix, parser.intermediates) {
    case (0, 0): plainControlSequence(final)
    case (0x3F, 0): privateControlSequence(final)
    case (0x3E, 0):
      switch final {
      case 0x63: secondaryDeviceAttributes()
      case 0x6D: modifyOtherKeys = parameter(0) == 4 ? UInt8(min(parameter(1), 2)) : 0
      case 0x6E: if parameter(0) == 4 { modifyOtherKeys = 0 }
      case 0x71: if parameter(0) == 0 { reportVersion() }
      default: break
      }
    case (0x3D, 0): if final == 0x63 && parameter(0) == 0 { tertiaryDeviceAttributes() }
    case (0, 0x20):
      switch final {
      case 0x40: shiftColumns(count(), left: true)  // SL
      case 0x41: shiftColumns(count(), left: false)  // SR
      case 0x71: setCursorShape(parameter(0))  // DECSCUSR
      default: break
      }
    case (0, 0x21): if final == 0x70 { softReset() }  // DECSTR
    case (0, 0x22):
      if final == 0x71 { setPenAttribute(.protected, parameter(0) == 1) }  // DECSCA
      if final == 0x70 { softReset() }  // DECSCL
    case (0, 0x24): if final == 0x70 { reportMode(parameter(0), isPrivate: false) }  // DECRQM
    case (0x3F, 0x24): if final == 0x70 { reportMode(parameter(0), isPrivate: true) }
    default: break
    }
  }

  private mutating func plainControlSequence(_ final: UInt8) {
    switch final {
    case 0x40: insertCharacters(count())  // ICH
    case 0x41, 0x6B: moveUp(count())  // CUU, VPB
    case 0x42: moveDown(count())  // CUD
    case 0x43, 0x61: moveTo(column: cursor.column + count())  // CUF, HPR
    case 0x44, 0x6A: moveTo(column: cursor.column - count())  // CUB, HPB
    case 0x45:  // CNL
      moveDown(count())
      carriageReturn()
    case 0x46:  // CPL
      moveUp(count())
      carriageReturn()
    case 0x47, 0x60: moveTo(column: count() - 1)  // CHA, HPA
    case 0x48, 0x66: moveTo(row: count() - 1, column: count(1) - 1)  // CUP, HVP
    case 0x49: tabForward(count())  // CHT
    case 0x4A: eraseInDisplay(parameter(0))  // ED
    case 0x4B: eraseInLine(parameter(0))  // EL
    case 0x4C: insertLines(count())  // IL
    case 0x4D: deleteLines(count())  // DL
    case 0x50: deleteCharacters(count())  // DCH
    case 0x53: scrollUp(count())  // SU
    // With more than one parameter it is xterm's highlight tracking.
    case 0x54: if parser.parameters.count == 1 { scrollDown(count()) }  // SD
    case 0x58: eraseCharacters(count())  // ECH
    case 0x5A: tabBackward(count())  // CBT
    case 0x62: repeatCharacter(count())  // REP
    case 0x63: if parameter(0) == 0 { deviceAttributes() }  // DA
    case 0x64:  // VPA
      let top = modes.contains(.origin) ? topMargin : 0
      moveTo(row: top + count() - 1)
    case 0x65: moveTo(row: cursor.row + count())  // VPR
    case 0x67:  // TBC
      if parameter(0) == 0 { tabs.clear(cursor.column) }
      if parameter(0) == 3 { tabs.clearAll() }
    case 0x68: setModes(true)  // SM
    case 0x6C: setModes(false)  // RM
    case 0x6D: selectGraphicRendition()  // SGR
    case 0x6E: deviceStatus(parameter(0))  // DSR
    case 0x72: setMargins(top: Int(parameter(0)), bottom: Int(parameter(1)))  // DECSTBM
    case 0x73: saveCursor()  // SCOSC
    case 0x74: windowOperation()
    case 0x75: restoreCursor()  // SCORC
    case 0x78: reportTerminalParameters(parameter(0))  // DECREQTPARM
    default: break
    }
  }

  private mutating func privateControlSequence(_ final: UInt8) {
    switch final {
    case 0x4A: eraseInDisplay(parameter(0), selective: true)  // DECSED
    case 0x4B: eraseInLine(parameter(0), selective: true)  // DECSEL
    case 0x57: if parameter(0) == 5 { tabs = TabStops() }  // DECST8C
    case 0x68: for number in parser.parameters { setPrivateMode(number, true) }  // DECSET
    case 0x6C: for number in parser.parameters { setPrivateMode(number, false) }  // DECRST
    case 0x6E: privateDeviceStatus(parameter(0))
    case 0x72:  // XTRESTORE
      for number in parser.parameters {
        if let on = savedModes[number] { setPrivateMode(number, on) }
      }
    case 0x73:  // XTSAVE
      for number in parser.parameters {
        if let on = privateModeIsSet(number) { savedModes[number] = on }
      }
    default: break
    }
  }

  private mutating func setModes(_ on: Bool) {
    for number in parser.parameters {
      if let mode = Modes.ansi(number) { setMode(mode, on) }
    }
  }

  private mutating func setCursorShape(_ number: UInt16) {
    switch number {
    case 0: cursorShape = .standard
    case 1, 2: cursorShape = .block
    case 3, 4: cursorShape = .underline
    case 5, 6: cursorShape = .bar
    default: return
    }
    setMode(.cursorBlinking, number == 1 || number == 3 || number == 5)
    damage.cursor = true
  }

  // MARK: Reset

  /// DECSTR (VT220 manual, table 4-10).
  mutating func softReset() {
    modes.subtract([
      .keyboardLocked, .insert, .origin, .applicationCursorKeys, .applicationKeypad, .reverseWrap,
    ])
    modes.formUnion([.autowrap, .cursorVisible])
    topMargin = 0
    bottomMargin = rows - 1
    pen = Pen()
    sets = CharacterSets()
    saved = SavedCursor()
    cursor.wrapsNext = false
    modifyOtherKeys = 0
    damage.cursor = true
  }

  /// RIS: as after power on. The scrollback, which is the user's, stays.
  mutating func reset() {
    useAlternateScreen(false)
    if grid.limit > 0 {
      for _ in 0..<grid.usedRows { grid.scrollScreenUp(clearingWith: .blank) }
    }
    for row in 0..<rows { grid.clear(row: row, with: .blank) }
    otherGrid = Grid(columns: columns, rows: rows, limit: 0)
    cursor = Cursor()
    pen = Pen()
    sets = CharacterSets()
    saved = SavedCursor()
    otherSaved = SavedCursor()
    modes = .initial
    mouseTracking = .off
    mouseEncoding = .legacy
    cursorShape = .standard
    modifyOtherKeys = 0
    topMargin = 0
    bottomMargin = rows - 1
    tabs = TabStops()
    savedModes = [:]
    lastPrinted = nil
    title = ""
    iconTitle = ""
    titleStack = []
    parser.reset()
    damage.everything = true
    damage.title = true
  }
}
