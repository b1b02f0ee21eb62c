// What a server remembers over a snapshot: its files by their names. The folder itself is the host's, and goes its own way.

import CLinux

extension NinePServer {
  struct State: Codable, Sendable {
    struct File: Codable, Sendable {
      var number: UInt32
      /// From the root.
      var path: [[UInt8]]
      /// nil: not open.
      var flags: Int32?
    }
    var messageSize: UInt32
    var files: [File]
  }

  func saveState() -> State {
    State(
      messageSize: messageSize,
      files: files.map { number, file in
        let path =
          switch file.place {
          case .folder(let node): node.path
          case .entry(let node, let name): node.path + [name]
          }
        return State.File(
          number: number, path: path, flags: file.descriptor >= 0 ? file.flags : nil)
      })
  }

  func restoreState(_ state: State) {
    reset(messageSize: state.messageSize)
    for saved in state.files { try? restore(saved) }
  }

  private func restore(_ saved: State.File) throws(NinePError) {
    var place = NinePFile.Place.folder(folder.root)
    for name in saved.path { place = try step(place, name).0 }
    let file = NinePFile(place: place)
    // What it did to the file when it was opened is done.
    if let flags = saved.flags { try open(file, flags & (O_ACCMODE | O_APPEND)) }
    try add(file, saved.number)
  }
}
