module tongan.dev/deploy/chaos

go 1.26.7

replace (
	tongan.dev/pkg => ../../pkg
	tongan.dev/proto => ../../proto
	tongan.dev/services => ../../services
)
