package qemulet_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// gap stands in a message for what is filled in when it is said.
const gap = "…"

// message is something that the code can say to a person when things are not
// as they should be.
type message struct {
	// text is the message with a gap for each value.
	text string
	// where is the file and line that says it.
	where string
	// wrapping tells that it only says what was being done when the error behind
	// it occurred, which has its own message.
	wrapping bool
}

// speakers are the functions that are given a message, and which argument it
// is. To these come all functions of a package that are given one in the
// manner of printf, or as a parameter of a name in textParams.
var speakers = map[string][]int{
	"errors.New": {0}, "fmt.Errorf": {0}, "status.Error": {1}, "status.Errorf": {1}, "http.Error": {1},
	"withWords": {0}, "badManifest": {0}, "problem": {0}, "note": {0}, "syntaxError": {0},
}

var textParams = []string{"format", "why", "reason"}

// silent are functions with such a parameter whose text is no complaint: they
// tell of progress, or explain a choice.
var silent = []string{"say", "line", "trace"}

// spokenTypes are those whose values, where they are written down, hold texts
// for people.
var spokenTypes = []string{"Condition", "Finding", "Problem", "exit", "Ending", "Share", "AccelDecision"}

// spokenFields are the fields with such texts.
var spokenFields = []string{"Reason", "Message", "Text", "Note"}

// levels are the methods of a log that report what should not be.
var levels = []string{"Warn", "Error", "WarnContext", "ErrorContext"}

// collectMessages reads the sources of the programs, without those of tests. It
// returns the messages, and all texts whatever they are for.
func collectMessages(t *testing.T) (all, written []message) {
	t.Helper()
	for _, top := range []string{"cmd", "internal", "qemu", "qmp", "netns", "disks", "cloudinit"} {
		for _, dir := range sourceDirs(t, top) {
			r := readPackage(t, dir)
			all, written = append(all, r.found...), append(written, r.written...)
		}
	}
	all = append(all, readScript(t, "deploy/node-install.sh")...)
	if len(all) < 500 {
		t.Fatalf("only %d messages were found in the sources", len(all))
	}
	return all, append(written, all...)
}

func sourceDirs(t *testing.T, top string) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return err
		case slices.Contains([]string{"testdata", "qmptest", "critwin"}, d.Name()):
			return filepath.SkipDir // tests' own
		}
		dirs = append(dirs, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// packageReader finds the messages of one package, by its syntax alone.
type packageReader struct {
	fset *token.FileSet
	// constants are the package's string constants, speakers its own functions
	// besides the general ones.
	constants map[string]string
	speakers  map[string][]int
	found     []message
	// written are all texts of the sources, also those that are no messages.
	written []message
}

func readPackage(t *testing.T, dir string) *packageReader {
	t.Helper()
	r := &packageReader{fset: token.NewFileSet(), constants: map[string]string{}, speakers: maps.Clone(speakers)}
	var files []*ast.File
	paths, _ := filepath.Glob(filepath.Join(dir, "*.go"))
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(r.fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for _, file := range files {
		ast.Inspect(file, r.declaration)
	}
	for _, file := range files {
		ast.Inspect(file, r.said)
	}
	return r
}

// declaration learns what the package has: constants, and functions that are
// given messages. A constant called reason... is a message itself.
func (r *packageReader) declaration(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if i < len(n.Values) {
				r.value(name.Name, n.Values[i])
			}
		}
	case *ast.FuncDecl:
		r.function(n.Name.Name, n.Type)
	case *ast.AssignStmt:
		if f, ok := n.Rhs[0].(*ast.FuncLit); ok && len(n.Lhs) == 1 {
			if name, ok := n.Lhs[0].(*ast.Ident); ok {
				r.function(name.Name, f.Type)
			}
		}
	}
	return true
}

func (r *packageReader) value(name string, value ast.Expr) {
	text, ok := r.text(value)
	if !ok {
		return
	}
	r.constants[name] = text
	if strings.HasPrefix(name, "reason") {
		r.add(value, text, false)
	}
}

func (r *packageReader) function(name string, f *ast.FuncType) {
	if slices.Contains(silent, name) {
		return
	}
	i := 0
	for _, field := range f.Params.List {
		for _, param := range field.Names {
			if typ, ok := field.Type.(*ast.Ident); ok && typ.Name == "string" && slices.Contains(textParams, param.Name) {
				r.speakers[name] = append(slices.Clone(r.speakers[name]), i)
			}
			i++
		}
	}
}

// said collects what a call, a value or an Error method has to say.
func (r *packageReader) said(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		r.call(n)
	case *ast.AssignStmt:
		r.assigned(n)
	case *ast.CompositeLit:
		r.literal(n)
	case *ast.BasicLit:
		if text, ok := r.text(n); ok && words.MatchString(text) {
			r.written = append(r.written, message{text: text, where: r.where(n)})
		}
	case *ast.FuncDecl:
		if n.Name.Name == "Error" && n.Recv != nil && n.Body != nil {
			ast.Inspect(n.Body, r.phrase)
		}
	}
	return true
}

func (r *packageReader) call(call *ast.CallExpr) {
	name, bare := calleeOf(call)
	places := r.speakers[name]
	if places == nil {
		places = r.speakers[bare]
	}
	if slices.Contains(levels, bare) && isLog(call) {
		places = []int{0}
	}
	for _, at := range places {
		if at >= len(call.Args) {
			continue
		}
		text, ok := r.text(call.Args[at])
		if ok && (len(places) == 1 || strings.Contains(text, " ")) { // else it is another function of that name
			r.add(call, text, name == "fmt.Errorf" && onlyWraps(call.Args[at], text))
		}
	}
}

// calleeOf returns "package.Function" and "Function", or the method's name.
func calleeOf(call *ast.CallExpr) (name, bare string) {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name, f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name, f.Sel.Name
		}
		return f.Sel.Name, f.Sel.Name
	}
	return "", ""
}

// isLog tells whether a method is that of something called log or Log.
func isLog(call *ast.CallExpr) bool {
	f := call.Fun.(*ast.SelectorExpr)
	switch x := f.X.(type) {
	case *ast.Ident:
		return strings.EqualFold(x.Name, "log") || x.Name == "slog"
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log")
	case *ast.CallExpr:
		name, _ := calleeOf(x)
		return strings.HasSuffix(name, "Log")
	}
	return false
}

// literal looks for a value of a spoken type, or a list of such.
func (r *packageReader) literal(lit *ast.CompositeLit) {
	if isSpoken(lit.Type) {
		r.fields(lit)
	}
	list, ok := lit.Type.(*ast.ArrayType)
	if !ok || !isSpoken(list.Elt) {
		return
	}
	for _, element := range lit.Elts {
		if value, ok := element.(*ast.CompositeLit); ok && value.Type == nil {
			r.fields(value)
		}
	}
}

func isSpoken(typ ast.Expr) bool {
	name, ok := typ.(*ast.Ident)
	return ok && slices.Contains(spokenTypes, name.Name)
}

// fields collects the texts of a value, unless it says that all is well.
func (r *packageReader) fields(lit *ast.CompositeLit) {
	if slices.ContainsFunc(lit.Elts, allIsWell) {
		return
	}
	for _, element := range lit.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok && !slices.Contains(spokenFields, key.Name) {
				continue
			}
			element = pair.Value
		} else if _, ok := element.(*ast.Ident); ok {
			continue // a constant, which counts where it is declared
		}
		if text, ok := r.text(element); ok && text != "" {
			r.add(element, text, false)
		}
	}
}

func allIsWell(e ast.Expr) bool {
	pair, ok := e.(*ast.KeyValueExpr)
	if !ok {
		return false
	}
	key, isIdent := pair.Key.(*ast.Ident)
	value, isTrue := pair.Value.(*ast.Ident)
	return isIdent && key.Name == "OK" && isTrue && value.Name == "true"
}

// assigned collects a text that a field is set to.
func (r *packageReader) assigned(n *ast.AssignStmt) {
	for i, left := range n.Lhs {
		s, ok := left.(*ast.SelectorExpr)
		if !ok || len(n.Lhs) != len(n.Rhs) || !slices.Contains(spokenFields, s.Sel.Name) {
			continue
		}
		if text, ok := r.text(n.Rhs[i]); ok && text != "" {
			r.add(n, text, false)
		}
	}
}

// phrase collects a text of more than one word.
func (r *packageReader) phrase(n ast.Node) bool {
	expr, ok := n.(ast.Expr)
	if !ok {
		return true
	}
	text, ok := r.text(expr)
	if ok && strings.Count(strings.TrimSpace(text), " ") > 1 {
		r.add(expr, text, false)
	}
	return !ok
}

var words = regexp.MustCompile(`\pL{3,}`)

// verbs are those of package fmt.
var verbs = regexp.MustCompile(`%(%|[-+# 0]*(\[\d+\])?[\d.*]*[a-zA-Z])`)

// text returns a text that is written down, alone or as a format or a part of
// a sum, with gaps.
func (r *packageReader) text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return verbs.ReplaceAllStringFunc(text, filled), err == nil
	case *ast.Ident:
		text, ok := r.constants[e.Name]
		return text, ok
	case *ast.ParenExpr:
		return r.text(e.X)
	case *ast.BinaryExpr:
		left, hasLeft := r.text(e.X)
		right, hasRight := r.text(e.Y)
		return part(left, hasLeft) + part(right, hasRight), e.Op == token.ADD && (hasLeft || hasRight)
	case *ast.CallExpr:
		if name, _ := calleeOf(e); name == "fmt.Sprintf" {
			return r.text(e.Args[0])
		}
	}
	return "", false
}

func filled(verb string) string {
	if verb == "%%" {
		return "%"
	}
	return gap
}

func part(text string, known bool) string {
	if known {
		return text
	}
	return gap
}

// add leaves out what has no words.
func (r *packageReader) add(at ast.Node, text string, wrapping bool) {
	if !words.MatchString(text) {
		return
	}
	r.found = append(r.found, message{text, r.where(at), wrapping})
}

func (r *packageReader) where(at ast.Node) string {
	pos := r.fset.Position(at.Pos())
	return pos.Filename + ":" + strconv.Itoa(pos.Line)
}

// wrappingWords is how many words say what was being done. Who says more than
// that, or has an advice, has something to say of his own.
const wrappingWords = 7

// onlyWraps tells whether the format is of the kind "reading the file %s: %w",
// around an error that has its own message.
func onlyWraps(format ast.Expr, text string) bool {
	lit, ok := format.(*ast.BasicLit)
	if !ok || !strings.HasSuffix(strings.Trim(lit.Value, "\"`"), "%w") {
		return false
	}
	rest := strings.TrimSuffix(text, gap)
	return len(strings.Fields(rest)) <= wrappingWords && !strings.ContainsAny(rest, ",;(")
}

// failsOfScript are the complaints of the node's installer.
var failsOfScript = regexp.MustCompile(`fail "((?:[^"\\]|\\.)+)"`)

var variables = regexp.MustCompile(`\$\{?\w+\}?`)

func readScript(t *testing.T, path string) []message {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []message
	for _, found := range failsOfScript.FindAllSubmatch(raw, -1) {
		text := strings.ReplaceAll(variables.ReplaceAllString(string(found[1]), gap), `\"`, `"`)
		all = append(all, message{text: text, where: path})
	}
	return all
}
