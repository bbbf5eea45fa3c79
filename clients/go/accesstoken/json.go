package accesstoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

var errDuplicate = errors.New("duplicate member")

// readObject reads one JSON object into a map, in which names keep their case.
// encoding/json would take invalid UTF-8, and the last of two equal members.
func readObject(text []byte) (map[string]any, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, invalid("bad_json")
	}
	value, err := readValue(json.NewDecoder(bytes.NewReader(text)))
	if errors.Is(err, errDuplicate) {
		return nil, invalid("duplicate_member")
	}
	object, ok := value.(map[string]any)
	if err != nil || !ok {
		return nil, invalid("bad_json")
	}
	return object, nil
}

// readValue reads the next value of a text that is valid JSON.
func readValue(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := map[string]any{}
		for decoder.More() {
			token, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			name := token.(string)
			if _, ok := object[name]; ok {
				return nil, errDuplicate
			}
			if object[name], err = readValue(decoder); err != nil {
				return nil, err
			}
		}
		_, err = decoder.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			value, err := readValue(decoder)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = decoder.Token()
		return list, err
	}
	return token, nil
}
