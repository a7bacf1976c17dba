// Package config is the daemon's settings: one table (table.go), from which
// flags, environment variables, the file and their documentation follow.
//
// A setting is called the same everywhere: run-dir is the flag --run-dir, the
// variable QEMULET_RUN_DIR and the key run-dir in the YAML file. The flag
// counts most, then the environment, then the file, then the default. What
// is not understood is an error; nothing is guessed or ignored.
package config
