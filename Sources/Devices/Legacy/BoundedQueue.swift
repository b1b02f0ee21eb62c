/// A first-in-first-out queue of small integers that never grows: the only place where chips push and pop bytes.
///
/// A guest that fills a queue without draining it loses elements and nothing else. Storage is allocated once.
package struct BoundedQueue<Element: FixedWidthInteger & Codable & Sendable>: Sendable {
  package private(set) var count = 0
  private var storage: [Element]
  private var head = 0

  package init(capacity: Int) {
    storage = Array(repeating: 0, count: max(capacity, 1))
  }

  /// A queue of `capacity` with the first elements of `other`: how a restored queue gets its own size back.
  package init(capacity: Int, contentsOf other: Self) {
    self.init(capacity: capacity)
    for index in 0..<other.count { append(other[index]) }
  }

  package var capacity: Int { storage.count }
  package var isEmpty: Bool { count == 0 }
  package var isFull: Bool { count >= storage.count }
  package var space: Int { storage.count - count }
  package var first: Element? { isEmpty ? nil : storage[head] }

  /// Element `index` from the head. Outside the queue: 0.
  package subscript(index: Int) -> Element {
    index >= 0 && index < count ? storage[(head + index) % storage.count] : 0
  }

  /// Adds at the tail. False: the queue is full and the element is lost.
  @discardableResult
  package mutating func append(_ element: Element) -> Bool {
    guard !isFull else { return false }
    storage[(head + count) % storage.count] = element
    count += 1
    return true
  }

  package mutating func popFirst() -> Element? {
    guard !isEmpty else { return nil }
    let element = storage[head]
    head = (head + 1) % storage.count
    count -= 1
    return element
  }

  /// Replaces the head, if there is one.
  package mutating func replaceFirst(with element: Element) {
    if !isEmpty { storage[head] = element }
  }

  package mutating func removeAll() {
    head = 0
    count = 0
  }

  /// Whether an element satisfies `predicate`.
  package func contains(where predicate: (Element) -> Bool) -> Bool {
    (0..<count).contains { predicate(self[$0]) }
  }
}

extension BoundedQueue: Equatable {
  package static func == (left: Self, right: Self) -> Bool {
    left.count == right.count && (0..<left.count).allSatisfy { left[$0] == right[$0] }
  }
}

extension BoundedQueue: Codable {
  /// More than any chip's queue holds: a damaged snapshot cannot allocate without bound.
  private static var decodingLimit: Int { 65536 }

  package init(from decoder: any Decoder) throws {
    let elements = try [Element](from: decoder)
    self.init(capacity: min(elements.count, Self.decodingLimit))
    for element in elements { append(element) }
  }

  package func encode(to encoder: any Encoder) throws {
    try (0..<count).map { self[$0] }.encode(to: encoder)
  }
}
