// An `oidc-provider` on the port of its configuration, which is its only argument: JSON. Everybody may sign in, with any
// password; who they are and which groups they have says `people`.
import { Provider } from 'oidc-provider'

const { port, clients, people, jwks } = JSON.parse(process.argv[2])
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients,
  jwks,
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  scopes: ['openid', 'profile', 'groups'],
  cookies: { keys: ['a key that signs nothing of worth'] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
})
provider.listen(port, '127.0.0.1', () => console.log('ready'))
