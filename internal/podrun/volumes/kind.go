package volumes

import (
	"reflect"
	"strings"
)

// kindOf names the field that is set in a struct of alternatives, such as
// corev1.VolumeSource, as manifests spell it; "" when none is.
func kindOf(alternatives any) string {
	v := reflect.ValueOf(alternatives)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}
