import Devices

extension Machine {
  /// What the display shows, read without stopping the guest; nil for a machine without a display.
  public func displaySnapshot() -> DisplaySnapshot? {
    guard configuration.display == .vga else { return nil }
    return board.devices.functions.display?.snapshot()
  }

  /// Most keys of one call: what is typed by hand, and a little more.
  private static var strokeLimit: Int { 1000 }

  /// Presses and releases keys of the PC's keyboard, one after the other.
  ///
  /// - Parameter names: as `KeyboardLayout` has them: `a`, `f10`, `ctrl-alt-del`.
  /// - Throws: `MachineError` for a name that is none, and when the guest does not read its keyboard.
  public func sendKeys(_ names: [String]) throws(MachineError) {
    var strokes: [KeyStroke] = []
    for name in names {
      guard let stroke = KeyboardLayout.stroke(named: name) else {
        throw MachineError(
          "no key \"\(String(name.prefix(40)))\"; keys are a, f10, enter, up, ctrl-alt-del")
      }
      strokes.append(stroke)
    }
    try send(strokes)
  }

  /// Types text on the PC's keyboard, US layout.
  ///
  /// - Throws: `MachineError` for a character that the layout does not have, and when the guest does not read.
  public func type(_ text: String) throws(MachineError) {
    var strokes: [KeyStroke] = []
    for character in text {
      guard let stroke = KeyboardLayout.stroke(for: character) else {
        throw MachineError("a US keyboard cannot type \"\(character)\"")
      }
      strokes.append(stroke)
    }
    try send(strokes)
  }

  private func send(_ strokes: [KeyStroke]) throws(MachineError) {
    guard strokes.count <= Self.strokeLimit else {
      throw MachineError("\(strokes.count) keys at once, but at most \(Self.strokeLimit) are taken")
    }
    guard board.devices.chips.type(strokes) else {
      throw MachineError("the guest does not read its keyboard: too many keys wait already")
    }
  }
}
