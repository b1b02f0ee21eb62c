/// What is wrong with a network, in one line.
public struct NetworkError: Error, Equatable, Sendable, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}
