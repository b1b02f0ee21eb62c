import Hosting
import Inventory

/// What `uj` without a verb does.
func openConsole() throws {
  let statuses = try StatusSurvey(openInventory()).statuses()
  say(StatusVerb.table(statuses))
}
