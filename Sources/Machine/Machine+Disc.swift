import Platform

extension Machine {
  /// The image of the disc in the CD-ROM drive; nil for an empty drive, or none.
  public var disc: String? { parts.tray?.path }

  /// Puts a disc into the CD-ROM drive, in place of what is there.
  ///
  /// - Parameters:
  ///   - path: names it.
  ///   - file: the image, open for reading; nil: it is opened by its path.
  ///   - force: also where the guest has locked the drive; else it is only asked to let the disc go.
  /// - Throws: `MachineError`: no drive, no such image, or the guest holds the disc. The old disc is still in then.
  public func changeDisc(
    path: String, file: SharedDescriptor? = nil, force: Bool = false
  ) throws(MachineError) {
    try drive().insert(path: path, file: file, force: force)
  }

  /// Takes the disc out of the CD-ROM drive; an empty drive stays as it is.
  ///
  /// - Parameter force: also where the guest has locked the drive; else it is only asked to let the disc go.
  /// - Throws: `MachineError`: no drive, or the guest holds the disc.
  public func ejectDisc(force: Bool = false) throws(MachineError) {
    try drive().eject(force: force)
  }

  private func drive() throws(MachineError) -> OpticalTray {
    guard let tray = parts.tray else {
      throw MachineError("\(configuration.name) has no CD-ROM drive")
    }
    return tray
  }
}
