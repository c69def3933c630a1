/* Out-of-line copies of the DPDK inline functions and macros that the safe layer needs. What runs while packets flow is
 * called once per burst, never per packet; the exception is the freeing of single packets, which is the slow way. */
#include "wrapper.h"

/* `Mbuf` in src/mbuf.rs mirrors these. The offsets are the same from 22.11 to 25.11; the names and nesting are not. */
#define AT(field, offset) \
	_Static_assert(offsetof(struct rte_mbuf, field) == (offset), "rte_mbuf." #field " moved: adapt src/mbuf.rs")
AT(buf_addr, 0);
AT(data_off, 16);
AT(refcnt, 18);
AT(nb_segs, 20);
AT(port, 22);
AT(ol_flags, 24);
AT(packet_type, 32);
AT(pkt_len, 36);
AT(data_len, 40);
AT(vlan_tci, 42);
AT(hash, 44);
AT(buf_len, 54);
AT(pool, 56);
AT(next, 64);
AT(tx_offload, 72);
_Static_assert(sizeof(struct rte_mbuf) == 128, "rte_mbuf grew: adapt src/mbuf.rs");
_Static_assert(RTE_MBUF_F_RX_RSS_HASH == 1ULL << 1, "RTE_MBUF_F_RX_RSS_HASH changed: adapt src/mbuf.rs");
#define NOTE_BIT 40
_Static_assert(1ULL << NOTE_BIT >= RTE_MBUF_F_FIRST_FREE && 1ULL << NOTE_BIT <= RTE_MBUF_F_LAST_FREE,
	"DPDK gives out other flags: adapt src/mbuf.rs");
_Static_assert(RTE_PKTMBUF_HEADROOM == 128, "RTE_PKTMBUF_HEADROOM changed: adapt src/mbuf.rs");

int shim_errno(void)
{
	return rte_errno;
}

unsigned shim_lcore_id(void)
{
	return rte_lcore_id();
}

/* Makes `Mbuf::NOTE` ours, so that no driver or library gets it. */
int shim_reserve_note(void)
{
	static const struct rte_mbuf_dynflag note = { .name = "pe_dynflag_note" };
	return rte_mbuf_dynflag_register_bitnum(&note, NOTE_BIT);
}

uint64_t shim_rdtsc(void)
{
	return rte_rdtsc();
}

uint16_t shim_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, packets, count);
}

uint16_t shim_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned count)
{
	return rte_pktmbuf_alloc_bulk(pool, packets, count);
}

void shim_pktmbuf_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}

uint16_t shim_pktmbuf_data_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

/* The structures below differ between releases in ways that matter to nobody here, so C fills and reads them. */

int shim_eth_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint32_t mtu, int rx_interrupts,
		       int spread, uint64_t rx_offloads, uint64_t tx_offloads)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret != 0)
		return ret;
	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = mtu;
	conf.rxmode.offloads = rx_offloads & info.rx_offload_capa;
	conf.txmode.offloads = tx_offloads & info.tx_offload_capa;
	conf.intr_conf.rxq = rx_interrupts ? 1 : 0;
	if (spread) {
		uint64_t wanted = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_SCTP;

		conf.rx_adv_conf.rss_conf.rss_hf = wanted & info.flow_type_rss_offloads;
		if (conf.rx_adv_conf.rss_conf.rss_hf != 0)
			conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	}
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &conf);
}

int shim_eth_info(uint16_t port, struct shim_eth_info *out)
{
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret != 0)
		return ret;
	out->driver = info.driver_name;
	out->device = info.device;
	out->if_index = info.if_index;
	out->min_mtu = info.min_mtu;
	out->max_mtu = info.max_mtu;
	out->max_rx_packet = info.max_rx_pktlen;
	out->max_rx_queues = info.max_rx_queues;
	out->max_tx_queues = info.max_tx_queues;
	out->rx_offloads = info.rx_offload_capa;
	out->tx_offloads = info.tx_offload_capa;
	out->rss_flows = info.flow_type_rss_offloads;
	return 0;
}

int shim_eth_link(uint16_t port, struct shim_eth_link *out)
{
	struct rte_eth_link link;
	int ret;

	memset(&link, 0, sizeof(link));
	ret = rte_eth_link_get_nowait(port, &link);
	out->speed = link.link_speed;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	return ret;
}
