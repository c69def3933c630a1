/* What the safe layer needs from DPDK, and nothing else. */
#include <rte_config.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* The parts of rte_eth_dev_info and rte_eth_link that are read, in a layout of our own. */
struct shim_eth_info {
	const char *driver;
	struct rte_device *device;
	uint64_t rx_offloads;
	uint64_t tx_offloads;
	uint64_t rss_flows;
	uint32_t if_index;
	uint32_t max_rx_packet;
	uint16_t min_mtu;
	uint16_t max_mtu;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
};

struct shim_eth_link {
	uint32_t speed;
	uint32_t up;
};
