/// What a thing on the screen is, to a theme. A theme gives each role a style; roles that it leaves out have the
/// default theme's.
package enum Role: String, CaseIterable, Sendable {
  /// Ordinary text and the ground that everything is painted on.
  case text
  /// What matters less: units, hints, empty cells of a table.
  case muted
  /// Headings inside panes and dialogs.
  case title
  /// The first line of the screen.
  case header
  /// The name of the program in it.
  case brand
  /// The line of column names.
  case columns
  /// The column that the list is sorted by.
  case sorted
  /// The row where the selection stands.
  case selection
  /// A row that is marked for a common action.
  case marked
  /// Frames of panes.
  case border
  /// The frame of the pane that gets the keys.
  case focus
  /// A key in the key bar and in help.
  case key
  /// What that key does.
  case keyLabel = "key_label"
  /// Text fields.
  case input
  /// The part of a name that the filter found.
  case match
  /// Dialogs: ground and text.
  case dialog
  case dialogBorder = "dialog_border"
  /// A button that Enter would not press.
  case button
  /// The button that Enter presses.
  case buttonFocus = "button_focus"
  /// Something that may lose data: the frame and button of dangerous dialogs.
  case danger
  case error
  case warning
  case ok
  case running
  case paused
  case stopped
  case starting
  case crashed
  case template
  /// Where the machine stands in its tree of snapshots.
  case here
  /// Output that nobody has seen yet.
  case unread
  case chartLow = "chart_low"
  case chartMiddle = "chart_middle"
  case chartHigh = "chart_high"
}
