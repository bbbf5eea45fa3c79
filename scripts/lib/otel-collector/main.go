// An OpenTelemetry Collector for tests: it receives OTLP by gRPC and by HTTP, and writes what it
// received to a file, one OTLP/JSON document a line.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"
)

// lines is an exporter in the collector's own sense. The ready-made file exporter is in another
// repository, with a hundred modules behind it.
type lines struct {
	Path string `mapstructure:"path"`
}

func (config *lines) Validate() error {
	if config.Path == "" {
		return errors.New("path is missing")
	}
	return nil
}

// write appends one line. Both signals may share a file.
func (config *lines) write(line []byte, err error) error {
	if err != nil {
		return err
	}
	writing.Lock()
	defer writing.Unlock()
	file, err := os.OpenFile(config.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

var writing sync.Mutex

func (config *lines) traces(_ context.Context, traces ptrace.Traces) error {
	return config.write(new(ptrace.JSONMarshaler).MarshalTraces(traces))
}

func (config *lines) metrics(_ context.Context, metrics pmetric.Metrics) error {
	return config.write(new(pmetric.JSONMarshaler).MarshalMetrics(metrics))
}

func newLines() exporter.Factory {
	stable := component.StabilityLevelStable
	return exporter.NewFactory(
		component.MustNewType("lines"),
		func() component.Config { return &lines{} },
		exporter.WithTraces(func(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Traces, error) {
			return exporterhelper.NewTraces(ctx, set, config, config.(*lines).traces)
		}, stable),
		exporter.WithMetrics(func(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Metrics, error) {
			return exporterhelper.NewMetrics(ctx, set, config, config.(*lines).metrics)
		}, stable),
	)
}

func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](newLines())
	// The collector's telemetry of itself is left out.
	own := telemetry.NewFactory(func() component.Config { return nil })
	return otelcol.Factories{Receivers: receivers, Exporters: exporters, Telemetry: own}, err
}

func main() {
	settings := otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otel-collector", Version: "test"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory()},
				DefaultScheme:     "file",
			},
		},
	}
	if err := otelcol.NewCommand(settings).Execute(); err != nil {
		log.Fatal(err)
	}
}
