package api

// SettingsPath answers GET with Settings.
const SettingsPath = "/v1/settings"

// Settings are the daemon's.
type Settings struct {
	// Values are those in force.
	Values []Setting `json:"values"`
	// Pending are those that the next start brings, where they are others.
	Pending []Setting `json:"pending"`
}

// Setting is one of them, and where its value comes from, in words.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}
